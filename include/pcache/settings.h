// What can be chosen for each logical device, when it is added and while it runs: one table for the engine, the control
// socket, the command line and the medium.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "pcache/result.h"

namespace pcache {

// The numbers are those on the medium: they stay, new settings come last.
enum class Setting : std::uint8_t {
  mode = 0,
  dirty_high = 1,
  dirty_low = 2,
  dirty_max_age = 3,
  writeback_rate_min = 4,
  writeback_rate_max = 5,
  writeback_order = 6,
  full_policy = 7,
  full_max_wait = 8,
  admission = 9,
  sequential_bypass = 10,
  share_min = 11,
  share_max = 12,
  uid = 13,
  gid = 14,
  permissions = 15,
  gc_high = 16,
};
inline constexpr std::size_t kSettingCount = 17;

// The values of choices; on the medium too.
enum class Mode : std::uint8_t { writeback = 0, writethrough = 1, writearound = 2, writeonly = 3, passthrough = 4 };
enum class WritebackOrder : std::uint8_t { epoch = 0, none = 1 };
enum class FullPolicy : std::uint8_t { throttle = 0, bypass = 1, error = 2 };
enum class Admission : std::uint8_t { always = 0, second_touch = 1 };

// What a value is:
//   choice           the number of a word
//   amount           a part of the cache device, in bytes or percent; see amount_bytes()
//   bytes, milliseconds, bytes_per_second
//   id               the number of a user or group, or kDaemonsId
//   permissions      those of a file, as in chmod
enum class SettingKind : std::uint8_t { choice, amount, bytes, milliseconds, bytes_per_second, id, permissions };

struct SettingInfo {
  Setting setting;
  const char* name;
  SettingKind kind;
  std::span<const char* const> words;  // of a choice
  std::uint64_t standard;              // where nothing else is said
  std::uint64_t least;
  std::uint64_t most;  // of an amount: in percent; any number of bytes will do
};

// All settings, in the order of their numbers.
std::span<const SettingInfo, kSettingCount> all_settings();
const SettingInfo& setting_info(Setting setting);
// The setting of that name, or nothing.
std::optional<Setting> find_setting(std::string_view name);
// "mode, dirty_high, ...".
std::string setting_names();
// That there is no setting called `name`, and which there are.
Status unknown_setting(std::string_view name);

// Amounts: a number of bytes below 2^63, or this and a number of percent.
inline constexpr std::uint64_t kPercent = std::uint64_t{1} << 63;
// The bytes that `amount` is of `total` bytes; at most `total`.
std::uint64_t amount_bytes(std::uint64_t amount, std::uint64_t total);

// Of an id: the user or group that the daemon runs as.
inline constexpr std::uint64_t kDaemonsId = 0xffffffff;

// Whether `value` is in the setting's range.
bool is_in_range(Setting setting, std::uint64_t value);

// The value that `text` is for `setting`: a word; "40%" or a size such as "512M"; a size, perhaps 0; milliseconds, or a
// number with ms, s, m or h; a size a second; a number or "daemon"; up to four octal digits. Invalid: anything else,
// and what is out of range; the error names the setting, the text, and what can be written.
Result<std::uint64_t> parse_setting(Setting setting, const std::string& text);
// The text for a value in range; parse_setting() makes the same value of it.
std::string format_setting(Setting setting, std::uint64_t value);

// Values for some of the settings. Value type.
class Settings {
 public:
  bool has(Setting setting) const { return given_.test(static_cast<std::size_t>(setting)); }
  // The value given, or the standard one.
  std::uint64_t get(Setting setting) const;
  void set(Setting setting, std::uint64_t value);
  void unset(Setting setting);
  bool empty() const { return given_.none(); }
  // What `over` gives takes the place of what is given here.
  void merge(const Settings& over);
  bool operator==(const Settings&) const = default;

 private:
  std::array<std::uint64_t, kSettingCount> values_{};
  std::bitset<kSettingCount> given_;
};

// What "KEY=VALUE" says is added to `settings`. Errors: invalid, naming the key or the value.
Status parse_assignment(std::string_view text, Settings& settings);

// Whether all values are in their ranges and those that are given go together: low below high, minimum below maximum. A
// standard value gives way: what is in force is never a low mark above the high one. Errors: invalid, naming the
// settings.
Status check_settings(const Settings& settings);

// Some of the settings, by their numbers.
using SettingSet = std::bitset<kSettingCount>;

// Where a value in force comes from. A later one takes the place of those before it.
enum class SettingOrigin : std::uint8_t {
  standard,   // nobody chose it
  stored,     // with the logical device, in the cache device
  config,     // a configuration file
  mount,      // an option of the mount
  temporary,  // set while it runs, and not stored
};
const char* to_string(SettingOrigin origin);

struct SettingValue {
  Setting setting;
  std::uint64_t value;
  SettingOrigin origin;
  // What these say, in force or not.
  std::optional<std::uint64_t> stored;
  std::optional<std::uint64_t> configured;
};

}  // namespace pcache
