#include "cli/output.h"

#include <cerrno>
#include <cstdio>

#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

bool errors_as_json = false;

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

void warn(const std::string& message) { std::fprintf(stderr, "pcachefs: warning: %s\n", printable(message).c_str()); }

int print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    return report(Status::from_errno(errno, "cannot write to standard output"));
  }
  return 0;
}

int print_json(const json& value) { return print(text_of(value, 2)); }

}  // namespace pcache
