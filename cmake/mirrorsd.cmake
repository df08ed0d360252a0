# One CMake library per folder, its sources listed by hand, its dependencies explicit.

include_guard(GLOBAL)

add_library(mirrorsd_flags INTERFACE)
# Contraction would let a compiler fuse a*b+c where another does not: the same bits everywhere.
target_compile_options(mirrorsd_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off -Wall -Wextra -Wno-unused-parameter
    -Wno-missing-field-initializers>)
if(MIRRORSD_WERROR)
  target_compile_options(mirrorsd_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(MIRRORSD_SANITIZE)
  set(_sanitize -fsanitize=${MIRRORSD_SANITIZE} -fno-omit-frame-pointer
      -fno-sanitize-recover=all)
  target_compile_options(mirrorsd_flags INTERFACE ${_sanitize})
  target_link_options(mirrorsd_flags INTERFACE ${_sanitize})
endif()
if(MIRRORSD_FUZZ)
  # Coverage of the libraries too, or a fuzzer would be blind; AddressSanitizer has the runtime for it.
  target_compile_options(mirrorsd_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# mirrorsd_library(NAME SOURCES a.cc ... DEPS x ... [PRIVATE_DEPS y ...])
# Makes the target mirrorsd_NAME (alias mirrorsd::NAME); without SOURCES a header-only one.
function(mirrorsd_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(mirrorsd_${name} STATIC ${ARG_SOURCES})
    target_include_directories(mirrorsd_${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(mirrorsd_${name} PUBLIC ${ARG_DEPS}
                          PRIVATE mirrorsd_flags ${ARG_PRIVATE_DEPS})
  else()
    add_library(mirrorsd_${name} INTERFACE)
    target_include_directories(mirrorsd_${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(mirrorsd_${name} INTERFACE ${ARG_DEPS})
  endif()
  add_library(mirrorsd::${name} ALIAS mirrorsd_${name})
endfunction()

# mirrorsd_binary(NAME SOURCES main.cc DEPS ...): a program in ${build}/bin.
function(mirrorsd_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE mirrorsd_flags ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# mirrorsd_test(NAME SOURCES a_test.cc ... DEPS ... [LABELS unit ...] [TIMEOUT s] [ARGS ...] [NO_MAIN])
# A GoogleTest program and one ctest entry that runs it from the source tree's root.
function(mirrorsd_test name)
  if(NOT MIRRORSD_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "NO_MAIN" "TIMEOUT" "SOURCES;DEPS;LABELS;ARGS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  # What a test calls is optimized; the test itself need not be, and builds in half the time.
  target_compile_options(${name} PRIVATE -O1)
  set(_main GTest::gmock_main)
  if(ARG_NO_MAIN)
    set(_main GTest::gmock)
  endif()
  target_link_libraries(${name} PRIVATE mirrorsd_flags ${ARG_DEPS} ${_main})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "MIRRORSD_BIN=${CMAKE_BINARY_DIR}/bin")
  # Tests labelled tsan: what crosses threads without gRPC. The tsan tree builds these alone.
  if("tsan" IN_LIST ARG_LABELS)
    if(NOT TARGET tsan_tests)
      add_custom_target(tsan_tests)
    endif()
    add_dependencies(tsan_tests ${name})
  endif()
endfunction()

# mirrorsd_benchmark(NAME SOURCES ... DEPS ...): a program in ${build}/bench, run by hand.
function(mirrorsd_benchmark name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE mirrorsd_flags ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
endfunction()

# mirrorsd_fuzzer(NAME SOURCES ... DEPS ... [CORPUS dir] [RUNNER main.cc] [RUNS n] [MAX_BYTES n]): a libFuzzer target where
# MIRRORSD_FUZZ is on (clang), and a short run of it as a test. Elsewhere NAME_corpus: RUNNER takes its corpus through once.
function(mirrorsd_fuzzer name)
  if(NOT MIRRORSD_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "CORPUS;RUNNER;RUNS;MAX_BYTES" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_RUNS)
    set(ARG_RUNS 20000)
  endif()
  if(NOT ARG_MAX_BYTES)
    set(ARG_MAX_BYTES 4096)
  endif()
  if(NOT MIRRORSD_FUZZ)
    if(NOT ARG_RUNNER OR MIRRORSD_SANITIZE)
      return()
    endif()
    list(APPEND ARG_SOURCES ${ARG_RUNNER})
    add_executable(${name}_corpus ${ARG_SOURCES})
    target_compile_options(${name}_corpus PRIVATE -O1)
    target_include_directories(${name}_corpus PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name}_corpus PRIVATE mirrorsd_flags ${ARG_DEPS})
    set_target_properties(${name}_corpus PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
    if(NOT TARGET fuzz_corpora)
      add_custom_target(fuzz_corpora)
    endif()
    add_dependencies(fuzz_corpora ${name}_corpus)
    add_test(NAME ${name}_corpus COMMAND ${name}_corpus ${ARG_CORPUS}
             WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name}_corpus PROPERTIES LABELS fuzz TIMEOUT 120)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE mirrorsd_flags ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  set(_found ${CMAKE_BINARY_DIR}/fuzz/${name}.corpus)
  file(MAKE_DIRECTORY ${_found})
  # What tests/fuzz/run.sh and coverage.sh go by.
  file(WRITE ${CMAKE_BINARY_DIR}/fuzz/${name}.options "${ARG_CORPUS} ${ARG_MAX_BYTES}\n")
  add_test(NAME ${name} COMMAND ${name} -runs=${ARG_RUNS} -seed=1 -max_total_time=8 -timeout=60
           -max_len=${ARG_MAX_BYTES} ${_found} ${ARG_CORPUS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 300)
endfunction()
