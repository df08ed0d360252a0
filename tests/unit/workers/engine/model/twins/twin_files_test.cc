#include "workers/engine/model/twins/twin_files.h"

#include <filesystem>
#include <fstream>

#include "common/error.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "workers/engine/model/fingerprint.h"
#include "workers/engine/model/opened_model.h"
#include "workers/engine/model/twins/twin_option.h"
#include "workers/engine/model/twins/twin_source.h"

namespace mirrorsd::engine {
namespace {

namespace fs = std::filesystem;

class TwinFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "twin_files_test_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string folder_;
};

TwinRecord Record(const std::string& option) { return {ParseTwinOption(option)->spec, {}, {}}; }

TEST_F(TwinFilesTest, AFolderIsTheSameModelAsTheOneInMemory) {
  for (const char* option : {"twin:small,seed=5,draft-damping=0.5", "twin:micro,dtype=f32,exit-damping=2"}) {
    const TwinRecord record = Record(option);
    for (const TwinRole role : {TwinRole::kTarget, TwinRole::kDraft}) {
      TwinFilesOptions options{.force = true, .num_threads = 2};
      LoadProgress last;
      options.on_progress = [&](const LoadProgress& progress) { last = progress; };
      ASSERT_TRUE(WriteTwinFolder(record, role, folder_, options).ok());
      EXPECT_EQ(last.bytes_done, last.bytes_total);
      const auto of_folder = OpenModel(MakeFolderSource(folder_));
      const auto of_memory = OpenModel(MakeTwinSource({record.spec, role}));
      ASSERT_TRUE(of_folder.ok()) << of_folder.status();
      ASSERT_TRUE(of_memory.ok()) << of_memory.status();
      EXPECT_EQ(ModelFingerprint(*of_folder), ModelFingerprint(*of_memory)) << option;
      ASSERT_EQ(of_folder->tensors.size(), of_memory->tensors.size());
      for (size_t i = 0; i < of_folder->tensors.size(); ++i) {
        EXPECT_EQ(of_folder->tensors[i].stored->bytes, of_memory->tensors[i].stored->bytes);
      }
    }
    // Its own twin.json makes it again.
    const auto again = ParseTwinOption("twin:" + folder_ + "/twin.json");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->spec.seed, record.spec.seed);
    EXPECT_EQ(again->spec.draft_damping, record.spec.draft_damping);
  }
}

TEST_F(TwinFilesTest, WritesOverNothingUnasked) {
  const TwinRecord record = Record("twin:micro");
  ASSERT_TRUE(WriteTwinFolder(record, TwinRole::kTarget, folder_, {}).ok());
  const absl::Status refused = WriteTwinFolder(record, TwinRole::kTarget, folder_, {});
  EXPECT_EQ(GetErrorInfo(refused)->reason, "INVALID_FIELD");
  EXPECT_NE(refused.message().find("--force"), absl::string_view::npos) << refused;
  EXPECT_TRUE(WriteTwinFolder(record, TwinRole::kTarget, folder_, {.force = true}).ok());
  const std::string file = folder_ + "/config.json";
  EXPECT_FALSE(WriteTwinFolder(record, TwinRole::kTarget, file, {.force = true}).ok());
  EXPECT_FALSE(WriteTwinFolder(record, TwinRole::kTarget, "/proc/nowhere", {}).ok());
}

TEST_F(TwinFilesTest, LooksForRoomFirst) {
  const absl::Status refused =
      CheckTwinFolder({ParseTwinOption("twin:llama-3.3-70b")->spec, TwinRole::kTarget}, folder_, false);
  const uint64_t room = fs::space(::testing::TempDir()).available;
  EXPECT_EQ(refused.ok(), room > uint64_t{142} << 30) << refused;
  EXPECT_FALSE(fs::exists(folder_));
}

}  // namespace
}  // namespace mirrorsd::engine
