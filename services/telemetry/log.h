#pragma once
// Logs of one process: one JSON line each on standard error, or plain text where that is a terminal.
// Not for output that a user asked for, which is standard output's, and not for the scheduler core,
// which never logs. This header hides spdlog, which is seen by log.cc alone.
// Thread-safe; InitLogging is called once, early in main. Without it, warnings and errors are shown.

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace mirrorsd::telemetry {

enum class LogLevel { kDebug = 0, kInfo, kWarning, kError, kOff };
enum class LogFormat { kAuto = 0, kJson, kPlain };  // kAuto: plain on a terminal, else JSON

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kAuto;
};

void InitLogging(const LogOptions& options);

// "debug", "info", "warning", "error", "off"; false if it is none of these.
bool ParseLogLevel(std::string_view text, LogLevel* level);

// One key and its value. Numbers and booleans stay unquoted in JSON.
struct LogField {
  LogField(std::string_view key, std::string_view value) : key(key), value(value), quoted(true) {}
  LogField(std::string_view key, const char* value) : key(key), value(value), quoted(true) {}
  LogField(std::string_view key, const std::string& value) : key(key), value(value), quoted(true) {}
  LogField(std::string_view key, bool value) : key(key), value(value ? "true" : "false") {}
  template <typename T, typename = std::enable_if_t<std::is_arithmetic_v<T>>>
  LogField(std::string_view key, T value) : key(key), value(std::to_string(value)) {}

  std::string key;
  std::string value;
  bool quoted = false;
};

// `component` is who speaks: "gateway", "scheduler", "verifier-worker", "draft-worker", "serve".
void Log(LogLevel level, std::string_view component, std::string_view message,
         std::initializer_list<LogField> fields = {});

inline void LogDebug(std::string_view component, std::string_view message,
                     std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kDebug, component, message, fields);
}
inline void LogInfo(std::string_view component, std::string_view message,
                    std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, component, message, fields);
}
inline void LogWarning(std::string_view component, std::string_view message,
                       std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, component, message, fields);
}
inline void LogError(std::string_view component, std::string_view message,
                     std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, component, message, fields);
}

// The line without time and level, as JSON fields; for tests.
std::string FormatLogJson(std::string_view component, std::string_view message,
                          std::initializer_list<LogField> fields);

}  // namespace mirrorsd::telemetry
