#include "base/size_text.h"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace pcache {
namespace {

constexpr char kUnits[] = "KMGTPE";

}  // namespace

Result<std::uint64_t> parse_size(const std::string& text) {
  const Status bad(Errc::invalid, "'" + text + "' is not a size; write a number with K, M, G, T, P or E, such as 512M");
  const std::size_t digits = text.find_first_not_of("0123456789.");
  const std::string number = text.substr(0, digits);
  std::string unit = digits == std::string::npos ? "" : text.substr(digits);

  long double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (number.empty() || error != std::errc() || end != number.data() + number.size()) return bad;

  const bool has_fraction = number.find('.') != std::string::npos;
  if (number.back() == '.') return bad;
  if (!unit.empty()) {
    const char letter = static_cast<char>(unit.front() & ~0x20);
    const std::string rest = unit.substr(1);
    if (letter == 'B' && rest.empty()) {
      unit.clear();
    } else if (rest.empty() || rest == "B" || rest == "b" || rest == "iB" || rest == "ib") {
      int power = 0;
      while (kUnits[power] != '\0' && kUnits[power] != letter) ++power;
      if (kUnits[power] == '\0') return bad;
      value = std::ldexp(value, 10 * (power + 1));
    } else {
      return bad;
    }
  }
  if (unit.empty() && has_fraction) return Status(Errc::invalid, "'" + text + "' is not a whole number of bytes");
  if (value >= 9223372036854775808.0L) return Status(Errc::invalid, "'" + text + "' is larger than any device can be");
  if (value < 1) return Status(Errc::invalid, "'" + text + "' is not a size: it must be at least one byte");
  return static_cast<std::uint64_t>(value);
}

std::string format_size(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  // What would be rounded up to 1024 of a unit is one of the next.
  while (std::round(value * 10) >= 10240 && kUnits[unit + 1] != '\0') {
    value /= 1024;
    ++unit;
  }
  const bool whole = std::fmod(std::round(value * 10), 10) == 0;
  char text[32];
  std::snprintf(text, sizeof text, "%.*f %ciB", whole ? 0 : 1, value, kUnits[unit]);
  return text;
}

}  // namespace pcache
