// Damage anywhere on a cache device: each sector is right or an error, and the engine neither dies nor goes on for
// ever. PCACHE_DAMAGE_IMAGES sets how many images each shape tries; a failure prints the PCACHE_DAMAGE_IMAGE that
// makes it alone.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tests/damage/damage_rig.h"
#include "tests/support/environment.h"

namespace pcache {
namespace {

constexpr std::uint64_t kImagesPerHistory = 100;
constexpr unsigned kMostSeconds = 300;  // for an image, which takes some milliseconds

char current_image[128];

extern "C" void too_long(int) {
  constexpr char kText[] = "an image takes for ever: ";
  (void)!write(STDERR_FILENO, kText, sizeof kText - 1);
  (void)!write(STDERR_FILENO, current_image, strlen(current_image));
  _exit(1);
}

// An image that asks for endless memory or time ends the test.
class DamageTest : public testing::TestWithParam<DamageShape> {
 protected:
  static void SetUpTestSuite() {
    std::signal(SIGALRM, too_long);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    constexpr rlim_t kMostBytes = rlim_t{4} << 30;
    const rlimit limit{kMostBytes, kMostBytes};
    ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
#endif
  }
  ~DamageTest() override { alarm(0); }
};

TEST_P(DamageTest, EachSectorIsRightOrAnError) {
  const bool alone = std::getenv("PCACHE_DAMAGE_IMAGE") != nullptr;
  const std::uint64_t first = from_environment("PCACHE_DAMAGE_IMAGE", 0);
  const std::uint64_t end = alone ? first + 1 : from_environment("PCACHE_DAMAGE_IMAGES", 1500);
  std::unique_ptr<DamageRig> rig;
  DamageCounts counts;
  for (std::uint64_t image = first; image < end; ++image) {
    std::snprintf(current_image, sizeof current_image, "PCACHE_DAMAGE_IMAGE=%llu --gtest_filter='*/%s'\n",
                  static_cast<unsigned long long>(image), GetParam().name().c_str());
    alarm(kMostSeconds);
    if (!rig || image % kImagesPerHistory == 0) {
      rig = std::make_unique<DamageRig>(GetParam(), image / kImagesPerHistory);
    }
    const std::string wrong = rig->try_image(image, counts);
    ASSERT_EQ(wrong, "") << current_image;
  }
  std::printf(
      "%s: %llu images (%llu forged): %llu refused, %llu failed, %llu with blocks in error, %llu unharmed; %llu lost "
      "what looks torn\n",
      GetParam().name().c_str(), static_cast<unsigned long long>(counts.images),
      static_cast<unsigned long long>(counts.forged), static_cast<unsigned long long>(counts.refused),
      static_cast<unsigned long long>(counts.failed), static_cast<unsigned long long>(counts.partly),
      static_cast<unsigned long long>(counts.unharmed), static_cast<unsigned long long>(counts.forgotten));
  if (alone) return;
  // Damage stays where it is: of so many images of which most have one damaged place, most run.
  EXPECT_GT(counts.unharmed + counts.partly, counts.images / 3);
  EXPECT_GT(counts.failed, 0U);
}

INSTANTIATE_TEST_SUITE_P(Shapes, DamageTest,
                         testing::Values(DamageShape{Granularity::cache_line, Ending::closed, 1},
                                         DamageShape{Granularity::cache_line, Ending::killed, 1},
                                         DamageShape{Granularity::page, Ending::closed, 1},
                                         DamageShape{Granularity::page, Ending::killed, 1},
                                         DamageShape{Granularity::cache_line, Ending::killed, 3},
                                         DamageShape{Granularity::page, Ending::killed, 3}),
                         [](const auto& shape) { return shape.param.name(); });

}  // namespace
}  // namespace pcache
