#include "cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

bool errors_as_json = false;
bool quiet = false;

// In ASCII, with nothing in it that a terminal would obey. What is not UTF-8 gets a replacement character.
std::string text_of(const json& value, int indent) {
  return value.dump(indent, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace

void report_as_json(bool as_json) { errors_as_json = as_json; }

std::string printable(const std::string& text) {
  std::string line;
  for (const char c : text) {
    char escaped[5];
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else {
      std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
      line += c == '\n' ? " " : escaped;
    }
  }
  return line;
}

int report(const Status& status) {
  if (status.ok()) return 0;
  if (errors_as_json) {
    const json error = {{"code", to_string(status.code())}, {"message", status.message()}};
    std::fputs(text_of({{"schema", schema_json()}, {"error", error}}, -1).c_str(), stderr);
  } else {
    std::fprintf(stderr, "pcachefs: %s\n", printable(status.message()).c_str());
  }
  return exit_code(status.code());
}

void be_quiet(bool on) { quiet = on; }
bool is_quiet() { return quiet; }

bool may_use_color() {
  const char* const no_color = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0') && terminal != nullptr &&
         std::strcmp(terminal, "dumb") != 0;
}

Status confirm(const std::string& what, bool yes) {
  if (yes || isatty(STDIN_FILENO) == 0) return Status();
  std::fprintf(stderr, "%s. Go on? [y/N] ", printable(what).c_str());
  char answer[16] = "";
  if (std::fgets(answer, sizeof answer, stdin) != nullptr && (answer[0] == 'y' || answer[0] == 'Y')) return Status();
  return Status(Errc::failed, "nothing was changed; --yes answers beforehand");
}

std::string overwrites(const std::string& path) { return "What is at " + path + " is overwritten"; }

void warn(const std::string& message) {
  if (!quiet) std::fprintf(stderr, "pcachefs: warning: %s\n", printable(message).c_str());
}

int print(const std::string& text) {
  if (quiet) return 0;
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    return report(Status::from_errno(errno, "cannot write to standard output"));
  }
  return 0;
}

int print_json(const json& value) { return print(text_of(value, 2)); }
int print_json_line(const json& value) { return print(text_of(value, -1)); }

}  // namespace pcache
