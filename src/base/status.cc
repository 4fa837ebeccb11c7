#include "pcache/status.h"

#include <cerrno>
#include <cstring>

namespace pcache {
namespace {

struct Word {
  Errc code;
  const char* text;
  int exit_code;
  int error;
};

constexpr Word kWords[] = {
    {Errc::ok, "ok", 0, 0},
    {Errc::failed, "failed", 1, EIO},
    {Errc::invalid, "invalid", 2, EINVAL},
    {Errc::not_found, "not_found", 3, ENOENT},
    {Errc::busy, "busy", 4, EBUSY},
    {Errc::dirty, "dirty", 5, EBUSY},
    {Errc::integrity, "integrity", 6, EIO},
    {Errc::timed_out, "timed_out", 7, ETIMEDOUT},
    {Errc::no_daemon, "no_daemon", 8, ENOTCONN},
    {Errc::permission, "permission", 9, EACCES},
    {Errc::no_space, "no_space", 1, ENOSPC},
};

const Word& word_of(Errc code) {
  for (const Word& word : kWords) {
    if (word.code == code) return word;
  }
  return kWords[1];
}

}  // namespace

Status Status::with_prefix(const std::string& prefix) const {
  return ok() ? *this : Status(code_, prefix + ": " + message_);
}

Status Status::from_errno(int error, const std::string& what) {
  Errc code = Errc::failed;
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      code = Errc::permission;
      break;
    case ENOENT:
      code = Errc::not_found;
      break;
    case EBUSY:
    case EEXIST:
      code = Errc::busy;
      break;
    case ENOSPC:
      code = Errc::no_space;
      break;
    case ETIMEDOUT:
      code = Errc::timed_out;
      break;
    default:
      break;
  }
  return Status(code, what + ": " + std::strerror(error));
}

int exit_code(Errc code) { return word_of(code).exit_code; }

int to_errno(Errc code) { return word_of(code).error; }

const char* to_string(Errc code) { return word_of(code).text; }

Errc errc_from_string(const std::string& text) {
  for (const Word& word : kWords) {
    if (text == word.text) return word.code;
  }
  return Errc::failed;
}

}  // namespace pcache
