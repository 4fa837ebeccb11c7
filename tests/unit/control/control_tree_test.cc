#include "control/control_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "control/event_log.h"
#include "control/jobs.h"
#include "control/tree_files.h"
#include "tests/unit/control/fake_manager.h"

namespace pcache {
namespace {

class ControlTreeTest : public testing::Test {
 protected:
  ControlTreeTest() {
    StatusReport report;
    CacheDevStats& cache = report.cache_devs.emplace_back();
    cache.label = "fast";
    cache.path = "/dev/dax0.0";
    cache.cache_dev_id = 0;
    cache.magic = 0x1234;
    cache.media_version = 4;
    cache.segments = 8;
    cache.segment_size_bytes = 1 << 20;
    report.cache_devs.push_back(cache);
    report.cache_devs.back().label = "other";
    report.cache_devs.back().cache_dev_id = 3;
    LogicDevStats& device = report.logic_devs.emplace_back();
    device.name = "db";
    device.backing = "/dev/sdb";
    device.cache_dev = "fast";
    device.backing_id = 2;
    device.dirty_bytes = 8192;
    device.used_bytes = 3 << 20;
    device.share_bytes = 8 << 20;
    // What is missing has no number.
    report.cache_devs.emplace_back().label = "gone";
    report.cache_devs.back().state = "missing";
    report.logic_devs.emplace_back().name = "elsewhere";
    report.logic_devs.back().cache_dev = "fast";
    report.logic_devs.back().state = "missing";
    report_ = report;
    manager_.report(report);
  }

  // The inode of a path inside the tree; 0 where there is none.
  std::uint64_t inode(const std::string& path) {
    std::uint64_t at = ControlTree::kRoot;
    for (std::size_t begin = 0; begin < path.size();) {
      const std::size_t end = std::min(path.find('/', begin), path.size());
      const auto node = tree_.lookup(at, std::string_view(path).substr(begin, end - begin));
      if (!node) return 0;
      at = node->inode;
      begin = end + 1;
    }
    return at;
  }
  std::string read(const std::string& path) {
    const auto value = tree_.read(inode(path));
    return value ? *value : "(" + value.status().message() + ")";
  }
  Status write(const std::string& path, const std::string& text) {
    std::promise<Status> end;
    tree_.write(inode(path), text, [&end](const Status& status) { end.set_value(status); });
    return end.get_future().get();
  }
  Status remove(const std::string& path, const std::string& name) {
    std::promise<Status> end;
    tree_.remove(inode(path), name, [&end](const Status& status) { end.set_value(status); });
    return end.get_future().get();
  }

  FakeManager manager_;
  StatusReport report_;
  Jobs jobs_;
  EventLog events_;
  CommandContext context_{manager_, "/mnt/x", [] {}, jobs_, events_};
  int changes_ = 0;
  static bool at_once(const std::function<void()>& what) {
    what();
    return true;
  }
  ControlTree tree_{context_, at_once, at_once, [this] { ++changes_; }};
};

TEST_F(ControlTreeTest, HasADirectoryForEachDevice) {
  std::string names;
  for (const TreeNode& node : tree_.list(ControlTree::kRoot)) names += (node.directory ? "/" : " ") + node.name;
  EXPECT_EQ(names,
            " cache_dev_register cache_dev_unregister events health jobs status version last_error/cache_dev0/"
            "cache_dev3");
  const auto of_cache = tree_.list(inode("cache_dev0"));
  EXPECT_TRUE(
      std::any_of(of_cache.begin(), of_cache.end(), [](const TreeNode& n) { return n.name == "backing_dev2"; }));
  for (const char* const none : {"cache_dev1", "cache_dev03", "cache_dev", "cache_dev99999999999999999999", "nosuch",
                                 "cache_dev3/backing_dev2", "cache_dev0/backing_dev0", "backing_dev2",
                                 "cache_dev0/last_error", "cache_dev0/cache_dev0", "version/version"}) {
    EXPECT_EQ(inode(none), 0U) << none;
  }
}

// What is listed is found by its name and by its inode, which no other has.
TEST_F(ControlTreeTest, InodesAreTheSameByName) {
  std::vector<std::uint64_t> seen;
  for (const char* const path : {"", "cache_dev0", "cache_dev3", "cache_dev0/backing_dev2"}) {
    for (const TreeNode& node : tree_.list(inode(path))) {
      EXPECT_TRUE(ControlTree::owns(node.inode));
      const auto by_name = tree_.lookup(inode(path), node.name);
      const auto by_inode = tree_.find(node.inode);
      ASSERT_TRUE(by_name && by_inode) << path << " " << node.name;
      EXPECT_EQ(by_name->inode, node.inode);
      EXPECT_EQ(by_inode->name, node.name);
      EXPECT_EQ(by_inode->writable, node.writable);
      seen.push_back(node.inode);
    }
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
  for (const std::uint64_t none :
       {ControlTree::kRoot + 4000, ControlTree::kRoot + (std::uint64_t{1} << 29), ~std::uint64_t{0}}) {
    EXPECT_FALSE(tree_.find(none)) << none;
  }
}

TEST_F(ControlTreeTest, EachFileHasOneValue) {
  EXPECT_EQ(read("cache_dev0/info"), "magic: 0x1234\nversion: 4\nflags: 0\n\nsegment_num: 8\n");
  EXPECT_EQ(read("cache_dev0/path"), "/dev/dax0.0\n");
  EXPECT_EQ(read("cache_dev3/label"), "other\n");
  EXPECT_EQ(read("cache_dev0/backing_dev2/path"), "/dev/sdb\n");
  EXPECT_EQ(read("cache_dev0/backing_dev2/mapped_id"), "db\n");
  EXPECT_EQ(read("cache_dev0/backing_dev2/cache_segs"), "8\n");
  EXPECT_EQ(read("cache_dev0/backing_dev2/cache_used_segs"), "3\n");
  EXPECT_EQ(read("cache_dev0/backing_dev2/dirty_bytes"), "8192\n");
  EXPECT_EQ(read("cache_dev0/backing_dev2/detached"), "0\n");
  EXPECT_EQ(read("cache_dev0/backing_dev2/dirty_high"), "30%\n");
  EXPECT_NE(read("cache_dev0/backing_dev2/stats").find("\nwrites 3\n"), std::string::npos);
  EXPECT_NE(read("cache_dev0/backing_dev2/stats").find("\nwrite_max_ns 700\n"), std::string::npos);
  EXPECT_EQ(read("last_error"), "");
  EXPECT_EQ(tree_.read(inode("cache_dev_register")).status().code(), Errc::permission);
  const std::uint64_t path = inode("cache_dev0/path");
  manager_.report({});
  EXPECT_EQ(tree_.read(path).status().code(), Errc::not_found) << "the cache device is gone";
}

// Every file can be used for something, and none stops another from being found.
TEST_F(ControlTreeTest, TheTablesMakeSense) {
  for (const auto* const files : {&tree_root_files(), &tree_cache_files(), &tree_backing_files()}) {
    EXPECT_LT(files->size(), 200U);
    std::string before;
    for (const TreeFile& file : *files) {
      EXPECT_LT(before, file.name) << "sorted, and each once";
      EXPECT_TRUE(file.read || file.write) << file.name;
      EXPECT_EQ(file.name.find('/'), std::string::npos);
      before = file.name;
    }
  }
  for (const SettingInfo& setting : all_settings()) {
    EXPECT_NE(inode(std::string("cache_dev0/backing_dev2/") + setting.name), 0U) << setting.name;
  }
}

TEST_F(ControlTreeTest, WhatIsWrittenIsACommandOfTheTable) {
  ASSERT_TRUE(write("cache_dev_register", "path=/dev/dax0.0,format=1,force=0\n").ok());
  ASSERT_TRUE(write("cache_dev_register", "path=/c\nforce=1\n").ok());
  ASSERT_TRUE(write("cache_dev_register", "path=/c,format=1,force=1,size=4096,label=l").ok());
  manager_.report(report_);
  ASSERT_TRUE(write("cache_dev_unregister", "cache_dev_id=3\n").ok());
  EXPECT_EQ(manager_.calls(),
            (std::vector<std::string>{"format /dev/dax0.0 0 ", "open /dev/dax0.0 1000", "open /c 1000",
                                      "format /c 4096 l force", "open /c 1000", "close other"}));
  ASSERT_TRUE(write("cache_dev0/adm", "op=backing-start,path=/dev/sdc,name=home,cache_size=64,mode=writearound").ok());
  ASSERT_TRUE(write("cache_dev3/adm", "path=/dev/sdd,data_crc=1\n").ok());
  const auto added = manager_.added();
  ASSERT_EQ(added.size(), 2U);
  EXPECT_EQ(added[0].name, "home");
  EXPECT_EQ(added[0].backing, "/dev/sdc");
  EXPECT_EQ(added[0].options.cache_label, "fast");
  EXPECT_EQ(added[0].options.settings.get(Setting::share_max), 64ULL << 20);
  EXPECT_EQ(added[0].options.settings.get(Setting::mode), static_cast<std::uint64_t>(Mode::writearound));
  EXPECT_EQ(added[1].name, "pcache0");
  EXPECT_EQ(added[1].options.cache_label, "other");
  EXPECT_TRUE(added[1].options.settings.empty());
  EXPECT_GE(changes_, 6);
  EXPECT_EQ(read("last_error"), "");
}

// A write returns when the job that it began has ended.
TEST_F(ControlTreeTest, JobsAreWaitedFor) {
  ASSERT_TRUE(write("cache_dev0/adm", "op=backing-stop,backing_id=2\n").ok());
  EXPECT_EQ(manager_.calls().back(), "remove db");
  ASSERT_TRUE(write("cache_dev0/backing_dev2/cache_gc_percent", "10\n").ok());
  EXPECT_EQ(manager_.calls().back(), "set db gc_high=10%");
  ASSERT_TRUE(write("cache_dev0/backing_dev2/dirty_high", "30%").ok());
  EXPECT_EQ(manager_.calls().back(), "set db dirty_high=30%");
  manager_.outcome(Status(Errc::dirty, "it holds data"));
  const Status stopped = write("cache_dev0/adm", "op=backing-stop,backing_id=2");
  EXPECT_EQ(stopped.code(), Errc::dirty);
  EXPECT_EQ(read("last_error"), ".pcache/cache_dev0/adm: it holds data\n");
}

TEST_F(ControlTreeTest, ARemovalResetsAndLeavesTheFile) {
  ASSERT_TRUE(remove("cache_dev0/backing_dev2", "stats").ok());
  EXPECT_EQ(manager_.calls().back(), "activity db reset");
  EXPECT_NE(inode("cache_dev0/backing_dev2/stats"), 0U);
  EXPECT_EQ(remove("cache_dev0/backing_dev2", "path").code(), Errc::permission);
  EXPECT_EQ(remove("cache_dev0/backing_dev2", "nosuch").code(), Errc::not_found);
  EXPECT_EQ(remove("", "version").code(), Errc::permission);
}

TEST_F(ControlTreeTest, WhatIsWrongIsNamedAndNothingIsDone) {
  struct Row {
    const char* file;
    const char* text;
    const char* named;
  };
  const Row rows[] = {
      {"cache_dev_register", "", "'path' is missing"},
      {"cache_dev_register", "path=", "'path' has no value"},
      {"cache_dev_register", "path=relative", "'path' does not begin"},
      {"cache_dev_register", "path=/a,format=2", "'format'"},
      {"cache_dev_register", "path=/a,nonsense=1", "'nonsense'"},
      {"cache_dev_unregister", "cache_dev_id=x", "'cache_dev_id'"},
      {"cache_dev_unregister", "cache_dev_id=-1", "'cache_dev_id'"},
      {"cache_dev_unregister", "cache_dev_id=7", "cache_dev_id 7"},
      {"cache_dev0/adm", "op=restart,path=/a", "'op' is"},
      {"cache_dev0/adm", "op=", "'op' has no value"},
      {"cache_dev0/adm", "op=backing-start", "'path' is missing"},
      {"cache_dev0/adm", "op=backing-start,path=/a,mode=fast", "'mode'"},
      {"cache_dev0/adm", "op=backing-start,path=/a,data_crc=0", "'data_crc'"},
      {"cache_dev0/adm", "op=backing-start,path=/a,data_crc=maybe", "'data_crc'"},
      {"cache_dev0/adm", "op=backing-start,path=/a,cache_size=0", "'cache_size'"},
      {"cache_dev0/adm", "op=backing-start,path=/a,cache_size=1G", "'cache_size'"},
      {"cache_dev0/adm", "op=backing-start,path=/a,backing_id=2", "'backing_id'"},
      {"cache_dev0/adm", "op=backing-stop", "'backing_id' is missing"},
      {"cache_dev0/adm", "op=backing-stop,backing_id=5", "backing_id 5"},
      {"cache_dev0/adm", "100", "'100'"},
      {"cache_dev0/backing_dev2/cache_gc_percent", "91", "0 to 90"},
      {"cache_dev0/backing_dev2/cache_gc_percent", "-1", "0 to 90"},
      {"cache_dev0/backing_dev2/cache_gc_percent", "\n", "0 to 90"},
      {"cache_dev0/backing_dev2/cache_gc_percent", "bad", "0 to 90"},
      {"cache_dev0/backing_dev2/mode", "fast", "mode must be"},
      {"cache_dev0/backing_dev2/dirty_bytes", "1", "only for reading"},
      {"last_error", "1", "only for reading"},
  };
  for (const Row& row : rows) {
    const Status status = write(row.file, row.text);
    EXPECT_FALSE(status.ok()) << row.file << " " << row.text;
    EXPECT_NE(status.message().find(row.named), std::string::npos) << status.message();
    EXPECT_EQ(read("last_error"), status.message() + "\n");
    EXPECT_EQ(read("last_error").rfind(std::string(".pcache/") + row.file + ": ", 0), 0U) << read("last_error");
  }
  EXPECT_EQ(write("cache_dev0/adm", std::string(5000, 'x')).code(), Errc::invalid);
  EXPECT_TRUE(manager_.calls().empty());
  EXPECT_TRUE(manager_.added().empty());
}

}  // namespace
}  // namespace pcache
