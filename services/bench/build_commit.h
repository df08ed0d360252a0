#pragma once
// The commit that this program was built from; its source is written by the build (cmake/build_commit.cmake).

namespace mirrorsd::bench {

// "7c73147", "7c73147-dirty" where the tree had changes, "unknown" where the build did not see a repository.
const char* BuildCommit();

}  // namespace mirrorsd::bench
