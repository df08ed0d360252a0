# Run at every build (cmake -DSOURCE=tree -DOUT=file.cc -P): writes the source of BuildCommit(), where it has changed.

execute_process(COMMAND git describe --always --dirty --abbrev=7 --match=none
  WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT commit)
  set(commit unknown)
endif()
set(text "#include \"services/bench/build_commit.h\"

namespace mirrorsd::bench {

const char* BuildCommit() { return \"${commit}\"; }

}  // namespace mirrorsd::bench
")
set(before "")
if(EXISTS ${OUT})
  file(READ ${OUT} before)
endif()
if(NOT text STREQUAL before)
  file(WRITE ${OUT} "${text}")
endif()
