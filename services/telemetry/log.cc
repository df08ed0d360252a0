#include "services/telemetry/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cmath>
#include <memory>
#include <mutex>

namespace mirrorsd::telemetry {
namespace {

struct Logger {
  std::shared_ptr<spdlog::logger> logger;
  bool json = false;
};

Logger Make(const LogOptions& options) {
  Logger made;
  made.json = options.format == LogFormat::kJson ||
              (options.format == LogFormat::kAuto && isatty(STDERR_FILENO) == 0);
  if (made.json) {
    made.logger = std::make_shared<spdlog::logger>(
        "mirrorsd", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l",%v})", spdlog::pattern_time_type::utc));
  } else {
    made.logger = std::make_shared<spdlog::logger>(
        "mirrorsd", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made.logger->set_pattern("%H:%M:%S.%e %^%-7l%$ %v");
  }
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                   spdlog::level::warn, spdlog::level::err,
                                                   spdlog::level::off};
  made.logger->set_level(kLevels[static_cast<int>(options.level)]);
  made.logger->flush_on(spdlog::level::debug);
  return made;
}

// Never destroyed: a thread may log while the process ends.
Logger& Current() {
  static Logger* current = new Logger(Make({.level = LogLevel::kWarning}));
  return *current;
}

void AppendJsonString(std::string_view text, std::string* out) {
  constexpr char kHex[] = "0123456789abcdef";
  out->push_back('"');
  for (const unsigned char c : text) {
    switch (c) {
      case '"': out->append("\\\""); break;
      case '\\': out->append("\\\\"); break;
      case '\n': out->append("\\n"); break;
      case '\t': out->append("\\t"); break;
      case '\r': out->append("\\r"); break;
      default:
        if (c < 0x20 || c == 0x7f) {
          out->append("\\u00");
          out->push_back(kHex[c >> 4]);
          out->push_back(kHex[c & 15]);
        } else {
          out->push_back(static_cast<char>(c));
        }
    }
  }
  out->push_back('"');
}

bool IsJsonNumberOrBool(std::string_view text) {
  // "nan" and "inf" are what to_string makes of them and no JSON.
  return text == "true" || text == "false" || text.find_first_of("nN") == std::string_view::npos;
}

std::string FormatPlain(std::string_view component, std::string_view message,
                        std::initializer_list<LogField> fields) {
  std::string line = std::string(component) + ": " + std::string(message);
  for (const LogField& field : fields) {
    line.append(" ").append(field.key).append("=");
    const bool bare = !field.value.empty() &&
                      field.value.find_first_of(" \"\n\t\r") == std::string::npos;
    if (bare) {
      line.append(field.value);
    } else {
      AppendJsonString(field.value, &line);
    }
  }
  return line;
}

}  // namespace

std::string FormatLogJson(std::string_view component, std::string_view message,
                          std::initializer_list<LogField> fields) {
  std::string line = "\"component\":";
  AppendJsonString(component, &line);
  line.append(",\"message\":");
  AppendJsonString(message, &line);
  for (const LogField& field : fields) {
    line.push_back(',');
    AppendJsonString(field.key, &line);
    line.push_back(':');
    if (!field.quoted && IsJsonNumberOrBool(field.value)) {
      line.append(field.value);
    } else {
      AppendJsonString(field.value, &line);
    }
  }
  return line;
}

void InitLogging(const LogOptions& options) { Current() = Make(options); }

bool ParseLogLevel(std::string_view text, LogLevel* level) {
  constexpr std::string_view kNames[] = {"debug", "info", "warning", "error", "off"};
  for (int i = 0; i < 5; ++i) {
    if (text == kNames[i]) {
      *level = static_cast<LogLevel>(i);
      return true;
    }
  }
  return false;
}

void Log(LogLevel level, std::string_view component, std::string_view message,
         std::initializer_list<LogField> fields) {
  constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                   spdlog::level::warn, spdlog::level::err,
                                                   spdlog::level::off};
  const spdlog::level::level_enum at = kLevels[static_cast<int>(level)];
  const Logger& current = Current();
  if (!current.logger->should_log(at)) return;
  const std::string line = current.json ? FormatLogJson(component, message, fields)
                                        : FormatPlain(component, message, fields);
  current.logger->log(at, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace mirrorsd::telemetry
