#include "cli/output.h"

#include <cerrno>
#include <cstdio>

namespace pcache {

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
  std::fprintf(stderr, "pcachefs: %s\n", printable(status.message()).c_str());
  return exit_code(status.code());
}

int print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    return report(Status::from_errno(errno, "cannot write to standard output"));
  }
  return 0;
}

}  // namespace pcache
