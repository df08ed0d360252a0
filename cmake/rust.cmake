# Builds a Rust crate as a static library through cargo, with its lock file, once for all presets.

include_guard(GLOBAL)

# What every preset shares: the crate is built the same way for each, sanitizers or not.
set(MIRRORSD_CARGO_TARGET_DIR ${PROJECT_SOURCE_DIR}/build/cargo CACHE PATH
    "Where cargo builds; shared between build directories")
set(_mirrorsd_cargo_min 1.85)

# Sets `out` in the caller: the version of this cargo, or empty if it does not run.
function(_mirrorsd_cargo_version cargo out)
  execute_process(COMMAND ${cargo} --version OUTPUT_VARIABLE _text ERROR_QUIET RESULT_VARIABLE _rc)
  set(_version "")
  if(_rc EQUAL 0 AND _text MATCHES "^cargo ([0-9]+\\.[0-9]+(\\.[0-9]+)?)")
    set(_version ${CMAKE_MATCH_1})
  endif()
  set(${out} "${_version}" PARENT_SCOPE)
endfunction()

# The first cargo that is new enough: $CARGO, the path, rustup's folder, Debian's cargo-web (which
# installs /usr/bin/cargo), Ubuntu's versioned packages (/usr/lib/rust-1.NN/bin/cargo).
function(_mirrorsd_find_cargo)
  if(MIRRORSD_CARGO)
    _mirrorsd_cargo_version(${MIRRORSD_CARGO} _version)
    if(_version VERSION_GREATER_EQUAL _mirrorsd_cargo_min)
      return()
    endif()
  endif()
  find_program(_cargo_in_path cargo NO_CACHE)
  file(GLOB _versioned /usr/lib/rust-*/bin/cargo)
  list(SORT _versioned COMPARE NATURAL ORDER DESCENDING)
  set(_seen "")
  foreach(_candidate "$ENV{CARGO}" "${_cargo_in_path}" "$ENV{CARGO_HOME}/bin/cargo"
          "$ENV{HOME}/.cargo/bin/cargo" /usr/bin/cargo /usr/bin/cargo-web ${_versioned})
    if(NOT _candidate OR NOT EXISTS "${_candidate}")
      continue()
    endif()
    _mirrorsd_cargo_version(${_candidate} _version)
    if(_version VERSION_GREATER_EQUAL _mirrorsd_cargo_min)
      set(MIRRORSD_CARGO ${_candidate} CACHE FILEPATH
          "cargo, ${_mirrorsd_cargo_min} or newer" FORCE)
      message(STATUS "Found cargo ${_version}: ${_candidate}")
      return()
    endif()
    list(APPEND _seen "${_candidate} (${_version})")
  endforeach()
  message(FATAL_ERROR
    "cargo ${_mirrorsd_cargo_min} or newer is needed for the tokenizer and chat template crates; "
    "found: ${_seen}\n"
    "Ways out: Debian 12: apt-get install cargo-web rustc-web (Debian's own cargo is too old). "
    "Ubuntu 24.04: apt-get install cargo-1.85 rustc-1.85. Anywhere: https://rustup.rs. "
    "Or name one: cmake -DMIRRORSD_CARGO=/path/to/cargo. "
    "Without them only the engine and the scheduler build: -DMIRRORSD_WITH_SERVICES=OFF.")
endfunction()

# mirrorsd_rust_library(NAME CRATE dir ARCHIVE libx.a SOURCES Cargo.toml src/lib.rs ...)
# Makes the imported target mirrorsd::NAME. SOURCES are relative to CRATE; cargo runs again when one
# of them changed.
function(mirrorsd_rust_library name)
  cmake_parse_arguments(ARG "" "CRATE;ARCHIVE" "SOURCES" ${ARGN})
  _mirrorsd_find_cargo()
  get_filename_component(_crate ${ARG_CRATE} ABSOLUTE)
  list(TRANSFORM ARG_SOURCES PREPEND ${_crate}/ OUTPUT_VARIABLE _sources)
  set(_archive ${MIRRORSD_CARGO_TARGET_DIR}/release/${ARG_ARCHIVE})
  set(_stamp ${CMAKE_CURRENT_BINARY_DIR}/${name}.stamp)
  # Beside a cargo that is not in the path lies the rustc that fits it. Flags of our own C and C++
  # must not reach the crates' C code: the archive is shared between presets.
  get_filename_component(_tools ${MIRRORSD_CARGO} DIRECTORY)
  add_custom_command(OUTPUT ${_stamp} BYPRODUCTS ${_archive}
    COMMAND ${CMAKE_COMMAND} -E env --unset=CFLAGS --unset=CXXFLAGS --unset=CARGO_TARGET_DIR
            "PATH=${_tools}:$ENV{PATH}" ${MIRRORSD_CARGO} build --release --locked --quiet
            --manifest-path ${_crate}/Cargo.toml --target-dir ${MIRRORSD_CARGO_TARGET_DIR}
    COMMAND ${CMAKE_COMMAND} -E touch ${_stamp}
    DEPENDS ${_sources}
    COMMENT "Building the Rust crate ${name} (two minutes the first time)"
    VERBATIM)
  add_custom_target(mirrorsd_${name}_build DEPENDS ${_stamp})
  add_library(mirrorsd_${name} STATIC IMPORTED GLOBAL)
  set_target_properties(mirrorsd_${name} PROPERTIES IMPORTED_LOCATION ${_archive}
                        INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
  add_dependencies(mirrorsd_${name} mirrorsd_${name}_build)
  add_library(mirrorsd::${name} ALIAS mirrorsd_${name})
endfunction()

# mirrorsd_rust_test(NAME CRATE dir): a ctest entry that runs the crate's unit tests on the release profile,
# whose dependencies are already built.
function(mirrorsd_rust_test name)
  cmake_parse_arguments(ARG "" "CRATE" "" ${ARGN})
  get_filename_component(_tools ${MIRRORSD_CARGO} DIRECTORY)
  add_test(NAME ${name}
    COMMAND ${CMAKE_COMMAND} -E env --unset=CFLAGS --unset=CXXFLAGS --unset=CARGO_TARGET_DIR
            "PATH=${_tools}:$ENV{PATH}" ${MIRRORSD_CARGO} test --release --locked --quiet
            --manifest-path ${ARG_CRATE}/Cargo.toml --target-dir ${MIRRORSD_CARGO_TARGET_DIR})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 600)
endfunction()
