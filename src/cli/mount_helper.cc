#include "cli/mount_helper.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

namespace pcache {
namespace {

using Words = std::vector<std::string>;

// Options of fstab that say how and when mount(8) mounts, or ask for what a mount is anyway: no programs, devices,
// times or links are on it, and its one directory has nothing to be written.
bool is_for_mount(std::string_view option) {
  static constexpr std::array kOptions{
      "rw",         "defaults", "auto",       "noauto",        "user",       "nouser",      "users",    "owner",
      "group",      "nofail",   "_netdev",    "dev",           "nodev",      "suid",        "nosuid",   "exec",
      "noexec",     "async",    "relatime",   "atime",         "noatime",    "strictatime", "diratime", "nodiratime",
      "silent",     "loud",     "norelatime", "nostrictatime", "lazytime",   "nolazytime",  "dirsync",  "iversion",
      "noiversion", "mand",     "nomand",     "symfollow",     "nosymfollow"};
  static constexpr std::array kWithValue{
      "x-", "X-", "comment=", "context=", "fscontext=", "defcontext=", "rootcontext=", "helper=", "uhelper="};
  return std::find(kOptions.begin(), kOptions.end(), option) != kOptions.end() ||
         std::any_of(kWithValue.begin(), kWithValue.end(),
                     [&](const char* begin) { return option.starts_with(begin); });
}

// At commas, but not at those of a text in double quotes, which contexts have.
Words split(const std::string& options) {
  Words all(1);
  bool is_quoted = false;
  for (const char c : options) {
    is_quoted = is_quoted != (c == '"');
    if (c == ',' && !is_quoted) {
      all.emplace_back();
    } else {
      all.back() += c;
    }
  }
  std::erase(all, "");
  return all;
}

// What stands before the arguments of both: -t TYPE, -N NAMESPACE, -o OPTIONS and letters.
struct Given {
  Words words;
  std::string options;
  std::string letters;
};

Result<Given> read_given(int argc, const char* const* argv) {
  Given given;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.size() < 2 || word[0] != '-') {
      given.words.push_back(word);
      continue;
    }
    const char last = word.back();
    if (last != 'o' && last != 't' && last != 'N') {
      given.letters += word.substr(1);
      continue;
    }
    given.letters += word.substr(1, word.size() - 2);
    if (++i == argc) return Status(Errc::invalid, "option " + word + " needs a value");
    if (last == 'N')
      return Status(Errc::invalid, "a mount in another namespace is not supported; start pcachefs in it");
    if (last == 'o') given.options += (given.options.empty() ? "" : ",") + std::string(argv[i]);
  }
  return given;
}

Result<Words> mount_words(const Given& given) {
  if (given.words.size() != 2) return Status(Errc::invalid, "a mount helper needs a cache device and a mount point");
  Words words{"mount", "--source", given.words[0]};
  if (given.words[0] != "none" && given.words[0] != "pcachefs") words.insert(words.end(), {"--cache", given.words[0]});
  std::string own;
  for (const std::string& option : split(given.options)) {
    if (option == "remount") {
      return Status(Errc::invalid,
                    "a pcachefs cannot be remounted: pcachefs set changes settings of logical devices while "
                    "it is mounted; for other options unmount it and mount it again");
    }
    if (option == "sync") {
      own = "ack=durable" + (own.empty() ? "" : "," + own);  // first, for one that is given counts more
      continue;
    }
    if (option == "ro") {
      return Status(Errc::invalid, "a pcachefs is never mounted read-only; mount what is on its files so");
    }
    if (option.starts_with("cache=")) {
      words.insert(words.end(), {"--cache", option.substr(std::string_view("cache=").size())});
    } else if (!is_for_mount(option)) {
      own += (own.empty() ? "" : ",") + option;
    }
  }
  if (given.letters.find('r') != std::string::npos) {
    return Status(Errc::invalid, "a pcachefs is never mounted read-only; mount what is on its files so");
  }
  if (given.letters.find('f') != std::string::npos) return Words();  // only to be tried
  if (!own.empty()) words.insert(words.end(), {"-o", own});
  words.insert(words.end(), {"--", given.words[1]});
  return words;
}

Result<Words> umount_words(const Given& given) {
  if (given.words.size() != 1) return Status(Errc::invalid, "an umount helper needs a mount point");
  if (given.letters.find_first_of("lf") != std::string::npos) {
    return Status(Errc::invalid,
                  "umount -l and -f of a pcachefs do not wait until all is on media; where that is wanted, add -i");
  }
  return Words{"umount", "--", given.words[0]};
}

}  // namespace

std::optional<Result<Words>> words_of_mount_helper(int argc, const char* const* argv) {
  const std::string name = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "";
  const bool mounts = name == "mount.pcachefs" || name == "mount.fuse.pcachefs";
  const bool unmounts = name == "umount.fuse.pcachefs";
  if (!mounts && !unmounts) return std::nullopt;
  const auto given = read_given(argc, argv);
  if (!given) return given.status();
  return mounts ? mount_words(*given) : umount_words(*given);
}

}  // namespace pcache
