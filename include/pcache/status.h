// Status: the outcome of an operation, as one word of a fixed vocabulary and one line for a person.
#pragma once

#include <string>
#include <utility>

namespace pcache {

// The vocabulary of failures. Each maps to one exit code of the command and one errno (see exit_code(), to_errno()).
enum class Errc {
  ok = 0,
  failed,      // an operation on a device or a system call failed
  invalid,     // what was asked for makes no sense: a bad size, name, option or combination
  not_found,   // no object of that name or path
  busy,        // the object exists already or is in use by another
  dirty,       // refused, because data that exists only in the cache would be lost
  integrity,   // stored data or metadata is damaged, or not what its checksum says
  timed_out,   // not finished in the time allowed
  no_daemon,   // no running mount answers
  permission,  // the caller may not do this
  no_space,    // the cache device or a table in it is full
};

// Value type; an ok Status holds no allocation. Not synchronised.
class [[nodiscard]] Status {
 public:
  Status() = default;
  // `message`: one line: what failed, on which object, why, and what to do. Must not be empty for an error.
  Status(Errc code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Errc::ok; }
  explicit operator bool() const { return ok(); }
  Errc code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same failure with `prefix` and ": " put before its message. An ok Status stays as it is.
  Status with_prefix(const std::string& prefix) const;

  // A Status for a failed system call: `what` and the text of `error` (a positive errno); EACCES, EPERM and EROFS
  // become permission, ENOENT not_found, EBUSY and EEXIST busy, ENOSPC no_space, ETIMEDOUT timed_out, the rest failed.
  static Status from_errno(int error, const std::string& what);

 private:
  Errc code_ = Errc::ok;
  std::string message_;
};

// The exit code of the command for `code`: 0 ok, 1 failed or no_space, 2 invalid, 3 not_found, 4 busy, 5 dirty,
// 6 integrity, 7 timed_out, 8 no_daemon, 9 permission.
int exit_code(Errc code);

// A positive errno that says `code` to a system-call user (0 for ok).
int to_errno(Errc code);

// The lower-case word for `code` used in JSON ("ok", "not_found", ...), and its inverse (unknown words: failed).
const char* to_string(Errc code);
Errc errc_from_string(const std::string& word);

}  // namespace pcache
