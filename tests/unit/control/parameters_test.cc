#include "control/parameters.h"

#include <gtest/gtest.h>

namespace pcache {
namespace {

const std::vector<Parameter> kKnown = {{"path", true}, {"format"}, {"force"}};

std::string refusal(std::string_view text) {
  const auto given = parse_parameters(text, kKnown);
  EXPECT_TRUE(given.ok() || given.status().code() == Errc::invalid);
  return given.status().message();
}

TEST(Parameters, AreSeparatedByCommasAndNewlines) {
  const auto given = parse_parameters("path=/dev/dax0.0,format=1\nforce=0,\n", kKnown);
  ASSERT_TRUE(given.ok()) << given.status().message();
  EXPECT_EQ(*given, (Parameters{{"path", "/dev/dax0.0"}, {"format", "1"}, {"force", "0"}}));
  const auto with_equals = parse_parameters("path=/a=b", kKnown);
  ASSERT_TRUE(with_equals.ok());
  EXPECT_EQ(with_equals->at("path"), "/a=b");
}

TEST(Parameters, ThatAreWrongAreNamed) {
  EXPECT_EQ(refusal("path=/a,size=3"), "there is no parameter 'size'; there are path, format, force");
  EXPECT_EQ(refusal("INVAL"), "there is no parameter 'INVAL'; there are path, format, force");
  EXPECT_EQ(refusal("path="), "parameter 'path' has no value");
  EXPECT_EQ(refusal("path"), "parameter 'path' has no value");
  EXPECT_EQ(refusal("path=/a,path=/b"), "parameter 'path' is given twice");
  EXPECT_EQ(refusal("format=1"), "parameter 'path' is missing");
  EXPECT_EQ(refusal(""), "parameter 'path' is missing");
  EXPECT_LT(refusal(std::string(5000, 'x')).size(), 200U) << "what is told stays short";
}

}  // namespace
}  // namespace pcache
