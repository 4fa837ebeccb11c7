#include "pcache/settings.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/setting_help.h"
#include "base/size_text.h"
#include "base/units.h"

namespace pcache {
namespace {

constexpr const char* kModes[] = {"writeback", "writethrough", "writearound", "writeonly", "passthrough"};
constexpr const char* kOrders[] = {"epoch", "none"};
constexpr const char* kFullPolicies[] = {"throttle", "bypass", "error"};
constexpr const char* kAdmissions[] = {"always", "second_touch"};

constexpr std::uint64_t kDay = 86'400'000;  // milliseconds
constexpr const char* kDaemonsWord = "daemon";
constexpr std::uint64_t kMostBytes = kPercent - 1;

template <std::size_t N>
constexpr SettingInfo choice(Setting setting, const char* name, const char* const (&words)[N]) {
  return {setting, name, SettingKind::choice, words, 0, 0, N - 1};
}
constexpr SettingInfo amount(Setting setting, const char* name, std::uint64_t percent, std::uint64_t most) {
  return {setting, name, SettingKind::amount, {}, kPercent | percent, 0, most};
}

constexpr std::array<SettingInfo, kSettingCount> kSettings = {{
    choice(Setting::mode, "mode", kModes),
    amount(Setting::dirty_high, "dirty_high", 50, 95),
    amount(Setting::dirty_low, "dirty_low", 40, 95),
    {Setting::dirty_max_age, "dirty_max_age", SettingKind::milliseconds, {}, 1000, 0, kDay},
    {Setting::writeback_rate_min, "writeback_rate_min", SettingKind::bytes_per_second, {}, 0, 0, kMostBytes},
    {Setting::writeback_rate_max, "writeback_rate_max", SettingKind::bytes_per_second, {}, 0, 0, kMostBytes},
    choice(Setting::writeback_order, "writeback_order", kOrders),
    choice(Setting::full_policy, "full_policy", kFullPolicies),
    {Setting::full_max_wait, "full_max_wait", SettingKind::milliseconds, {}, 60'000, 10, kDay},
    choice(Setting::admission, "admission", kAdmissions),
    {Setting::sequential_bypass, "sequential_bypass", SettingKind::bytes, {}, 0, 0, kMostBytes},
    amount(Setting::share_min, "share_min", 0, 100),
    amount(Setting::share_max, "share_max", 100, 100),
    {Setting::uid, "uid", SettingKind::id, {}, kDaemonsId, 0, kDaemonsId},
    {Setting::gid, "gid", SettingKind::id, {}, kDaemonsId, 0, kDaemonsId},
    {Setting::permissions, "permissions", SettingKind::permissions, {}, 0600, 0, 0777},
    amount(Setting::gc_high, "gc_high", 100, 100),
}};

Status bad_value(const SettingInfo& info, const std::string& text, const std::string& rule) {
  return Status(Errc::invalid, std::string(info.name) + " must be " + rule + ", not '" + text + "'");
}

std::string words_of(const SettingInfo& info) {
  std::string words;
  for (std::size_t i = 0; i < info.words.size(); ++i) {
    words += (i == 0 ? "" : i + 1 == info.words.size() ? " or " : ", ") + std::string(info.words[i]);
  }
  return words;
}

std::string rule_of(const SettingInfo& info) {
  switch (info.kind) {
    case SettingKind::choice:
      return words_of(info);
    case SettingKind::amount:
      return std::to_string(info.least) + "% to " + std::to_string(info.most) + "% or a size such as 512M";
    case SettingKind::bytes:
      return "0 or a size such as 4M";
    case SettingKind::bytes_per_second:
      return "0 or a size a second such as 20M";
    case SettingKind::milliseconds:
      return std::to_string(info.least) + " to " + std::to_string(info.most) + " milliseconds, or a time such as 30s";
    case SettingKind::id:
      return std::string("a number, as id(1) shows it, or ") + kDaemonsWord;
    case SettingKind::permissions:
      return "octal digits from 0000 to 0777";
  }
  return {};
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

struct TimeUnit {
  std::string_view suffix;
  std::uint64_t milliseconds;
};
// "ms" before "s" and "m": the first that fits counts.
constexpr TimeUnit kTimeUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};

std::optional<std::uint64_t> milliseconds(std::string_view text) {
  std::uint64_t unit = 1;
  for (const TimeUnit& u : kTimeUnits) {
    if (!text.ends_with(u.suffix)) continue;
    unit = u.milliseconds;
    text.remove_suffix(u.suffix.size());
    break;
  }
  const auto number = whole_number(text);
  if (!number || *number > kDay) return std::nullopt;
  return *number * unit;
}

std::optional<std::uint64_t> value_of(const SettingInfo& info, const std::string& text) {
  switch (info.kind) {
    case SettingKind::choice: {
      const auto word = std::find(info.words.begin(), info.words.end(), std::string_view(text));
      if (word == info.words.end()) return std::nullopt;
      return static_cast<std::uint64_t>(word - info.words.begin());
    }
    case SettingKind::amount:
      if (text.ends_with('%')) {
        const auto percent = whole_number(std::string_view(text).substr(0, text.size() - 1));
        if (!percent || *percent > 100) return std::nullopt;
        return kPercent | *percent;
      }
      if (whole_number(text) && text != "0") return std::nullopt;  // is it bytes or percent?
      [[fallthrough]];
    case SettingKind::bytes:
    case SettingKind::bytes_per_second: {
      if (text == "0") return 0;
      const auto size = parse_size(text);
      if (!size) return std::nullopt;
      return *size;
    }
    case SettingKind::milliseconds:
      return milliseconds(text);
    case SettingKind::id: {
      if (text == kDaemonsWord) return kDaemonsId;
      const auto id = whole_number(text);
      return id && *id < kDaemonsId ? id : std::nullopt;  // no user has that number
    }
    case SettingKind::permissions: {
      std::uint64_t bits = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits, 8);
      if (text.empty() || text.size() > 4 || error != std::errc() || end != text.data() + text.size()) {
        return std::nullopt;
      }
      return bits;
    }
  }
  return std::nullopt;
}

// In the largest binary unit that it is a multiple of.
std::string exact_size(std::uint64_t bytes) {
  constexpr char kUnits[] = "KMGTPE";
  if (bytes == 0 || bytes % kKiB != 0) return std::to_string(bytes) + (bytes == 0 ? "" : "B");
  std::size_t unit = 0;
  for (bytes /= kKiB; bytes % kKiB == 0 && kUnits[unit + 1] != '\0'; bytes /= kKiB) ++unit;
  return std::to_string(bytes) + kUnits[unit];
}

}  // namespace

std::span<const SettingInfo, kSettingCount> all_settings() { return kSettings; }

const SettingInfo& setting_info(Setting setting) { return kSettings[static_cast<std::size_t>(setting)]; }

std::optional<Setting> find_setting(std::string_view name) {
  for (const SettingInfo& info : kSettings) {
    if (name == info.name) return info.setting;
  }
  return std::nullopt;
}

std::string setting_names() {
  std::string names;
  for (const SettingInfo& info : kSettings) names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

std::string setting_rule(Setting setting) { return rule_of(setting_info(setting)); }

Status unknown_setting(std::string_view name) {
  return Status(Errc::invalid, "there is no setting '" + std::string(name) + "'; there are " + setting_names());
}

std::uint64_t amount_bytes(std::uint64_t amount, std::uint64_t total) {
  if ((amount & kPercent) == 0) return std::min(amount, total);
  const std::uint64_t percent = std::min<std::uint64_t>(amount & ~kPercent, 100);
  return total / 100 * percent + total % 100 * percent / 100;
}

bool is_in_range(Setting setting, std::uint64_t value) {
  const SettingInfo& info = setting_info(setting);
  if (info.kind == SettingKind::amount && (value & kPercent) == 0) return true;
  if (info.kind == SettingKind::amount) value &= ~kPercent;
  return value >= info.least && value <= info.most;
}

Result<std::uint64_t> parse_setting(Setting setting, const std::string& text) {
  const SettingInfo& info = setting_info(setting);
  const auto value = value_of(info, text);
  if (!value || !is_in_range(setting, *value)) return bad_value(info, text, rule_of(info));
  return *value;
}

std::string format_setting(Setting setting, std::uint64_t value) {
  const SettingInfo& info = setting_info(setting);
  switch (info.kind) {
    case SettingKind::choice:
      return value < info.words.size() ? info.words[value] : std::to_string(value);
    case SettingKind::amount:
      if ((value & kPercent) != 0) return std::to_string(value & ~kPercent) + "%";
      return exact_size(value);
    case SettingKind::bytes:
    case SettingKind::bytes_per_second:
      return exact_size(value);
    case SettingKind::milliseconds:
      return std::to_string(value);
    case SettingKind::id:
      return value == kDaemonsId ? kDaemonsWord : std::to_string(value);
    case SettingKind::permissions: {
      char octal[8];
      std::snprintf(octal, sizeof octal, "%04o", static_cast<unsigned>(value));
      return octal;
    }
  }
  return {};
}

std::uint64_t Settings::get(Setting setting) const {
  return has(setting) ? values_[static_cast<std::size_t>(setting)] : setting_info(setting).standard;
}

void Settings::set(Setting setting, std::uint64_t value) {
  values_[static_cast<std::size_t>(setting)] = value;
  given_.set(static_cast<std::size_t>(setting));
}

void Settings::unset(Setting setting) {
  values_[static_cast<std::size_t>(setting)] = 0;
  given_.reset(static_cast<std::size_t>(setting));
}

void Settings::merge(const Settings& over) {
  for (const SettingInfo& info : kSettings) {
    if (over.has(info.setting)) set(info.setting, over.get(info.setting));
  }
}

Status parse_assignment(std::string_view text, Settings& settings) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const auto setting = find_setting(name);
  if (!setting) return unknown_setting(name);
  const std::string_view value = equals == std::string_view::npos ? "" : text.substr(equals + 1);
  const auto parsed = parse_setting(*setting, std::string(value));
  if (!parsed) return parsed.status();
  settings.set(*setting, *parsed);
  return Status();
}

Status check_settings(const Settings& settings) {
  for (const SettingInfo& info : kSettings) {
    const std::uint64_t value = settings.get(info.setting);
    if (!is_in_range(info.setting, value)) {
      return bad_value(info, format_setting(info.setting, value), rule_of(info));
    }
  }
  struct Pair {
    Setting less;
    Setting more;
  };
  constexpr Pair kPairs[] = {{Setting::dirty_low, Setting::dirty_high},
                             {Setting::writeback_rate_min, Setting::writeback_rate_max},
                             {Setting::share_min, Setting::share_max}};
  for (const auto& [less, more] : kPairs) {
    if (!settings.has(less) || !settings.has(more)) continue;
    const std::uint64_t low = settings.get(less);
    const std::uint64_t high = settings.get(more);
    if (setting_info(less).kind == SettingKind::bytes_per_second && high == 0) continue;  // no limit
    if ((low & kPercent) != (high & kPercent) || low <= high) continue;
    return Status(Errc::invalid, std::string(setting_info(less).name) + " (" + format_setting(less, low) +
                                     ") must not be more than " + setting_info(more).name + " (" +
                                     format_setting(more, high) + ")");
  }
  return Status();
}

const char* to_string(SettingOrigin origin) {
  switch (origin) {
    case SettingOrigin::standard:
      return "default";
    case SettingOrigin::stored:
      return "stored";
    case SettingOrigin::config:
      return "config";
    case SettingOrigin::mount:
      return "mount";
    case SettingOrigin::temporary:
      return "temporary";
  }
  return "unknown";
}

}  // namespace pcache
