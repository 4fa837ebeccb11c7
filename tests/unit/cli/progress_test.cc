#include "cli/progress.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/units.h"

namespace pcache {
namespace {

constexpr ProgressLine::Time kBegin{};

ProgressLine::Time after(int seconds) { return kBegin + std::chrono::seconds(seconds); }

TEST(Progress, SaysHowMuchIsDoneHowFastItGoesAndHowLongItTakes) {
  EXPECT_EQ(progress_text({20 * kMiB, 100 * kMiB, 2 * kMiB, 40'000}), "20 MiB of 100 MiB, 2 MiB/s, 40 s to go");
  EXPECT_EQ(progress_text({0, 100 * kMiB, 0, 0}), "0 B of 100 MiB") << "nothing is known of its rate";
  EXPECT_EQ(progress_text({kMiB, 100 * kMiB, 102'400, 990'000}), "1 MiB of 100 MiB, 100 KiB/s, 16 min to go");
  EXPECT_EQ(progress_text({kMiB, 100 * kMiB, 1024, 8'000'000}), "1 MiB of 100 MiB, 1 KiB/s, 2 h to go");
  EXPECT_EQ(progress_text({}), "nothing to write back");
}

TEST(Progress, WithoutATerminalALineEveryTenSeconds) {
  std::ostringstream out;
  ProgressLine progress(out, false, "db", kBegin);
  for (int second = 0; second <= 25; ++second) progress.update({0, 30 * kMiB, 0, 0}, after(second));
  progress.end();
  EXPECT_EQ(out.str(), "db: 0 B of 30 MiB\ndb: 0 B of 30 MiB\n");
}

TEST(Progress, OnATerminalOneBarIsWrittenOverAndEnded) {
  std::ostringstream out;
  ProgressLine progress(out, true, "db", kBegin);
  progress.update({512 * kMiB, 1024 * kMiB, 0, 0}, after(0));
  progress.update({kMiB, kMiB, 0, 0}, after(0));
  progress.end();
  EXPECT_EQ(out.str(),
            "\rdb: [############            ] 512 MiB of 1 GiB"
            "\rdb: [########################] 1 MiB of 1 MiB  \n");
  ProgressLine quiet(out, true, "db", kBegin);
  quiet.end();
  EXPECT_EQ(out.str().back(), '\n');
}

}  // namespace
}  // namespace pcache
