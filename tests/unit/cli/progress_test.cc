#include "cli/progress.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/units.h"

namespace pcache {
namespace {

constexpr Progress::Time kBegin{};

Progress::Time after(int seconds) { return kBegin + std::chrono::seconds(seconds); }

TEST(Progress, SaysWhatIsLeftHowFastItGoesAndHowLongItTakes) {
  std::ostringstream out;
  Progress progress(out, false, "db", kBegin);
  progress.update(100 * kMiB, after(1));
  EXPECT_EQ(progress.text(80 * kMiB, after(10)), "80 MiB left, 2 MiB/s, 40 s to go");
  EXPECT_EQ(progress.text(100 * kMiB, after(10)), "100 MiB left") << "nothing is known of its rate";
  EXPECT_EQ(progress.text(120 * kMiB, after(10)), "120 MiB left") << "it grows";
  EXPECT_EQ(progress.text(0, after(10)), "nothing left, 10 MiB/s, 0 s to go");
  EXPECT_EQ(progress.text(99 * kMiB, after(10)), "99 MiB left, 102.4 KiB/s, 16 min to go");
}

TEST(Progress, WithoutATerminalALineEveryTenSeconds) {
  std::ostringstream out;
  Progress progress(out, false, "db", kBegin);
  for (int second = 0; second <= 25; ++second) progress.update(30 * kMiB, after(second));
  progress.end();
  EXPECT_EQ(out.str(), "db: 30 MiB left\ndb: 30 MiB left\n");
}

TEST(Progress, OnATerminalOneLineIsWrittenOverAndEnded) {
  std::ostringstream out;
  Progress progress(out, true, "db", kBegin);
  progress.update(1023 * kMiB, after(0));
  progress.update(kMiB, after(0));
  progress.end();
  EXPECT_EQ(out.str(), "\rdb: 1023 MiB left\rdb: 1 MiB left   \n");
  Progress quiet(out, true, "db", kBegin);
  quiet.end();
  EXPECT_EQ(out.str().back(), '\n');
}

}  // namespace
}  // namespace pcache
