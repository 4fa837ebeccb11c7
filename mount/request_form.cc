#include "mount/request_form.h"

#include <algorithm>

namespace pcache {
namespace {

// The operations that libfuse is given, with the bytes of their fields and the names that follow those.
struct Form {
  std::uint32_t opcode;
  std::size_t body_bytes;
  int names;
};

// Of FUSE_INIT, what even the oldest kernels send.
constexpr std::size_t kShortInit = offsetof(fuse_init_in, flags) + sizeof(fuse_init_in::flags);

constexpr Form kForms[] = {
    {FUSE_LOOKUP, 0, 1},
    {FUSE_FORGET, sizeof(fuse_forget_in), 0},
    {FUSE_GETATTR, sizeof(fuse_getattr_in), 0},
    {FUSE_SETATTR, sizeof(fuse_setattr_in), 0},
    {FUSE_MKNOD, sizeof(fuse_mknod_in), 1},
    {FUSE_MKDIR, sizeof(fuse_mkdir_in), 1},
    {FUSE_UNLINK, 0, 1},
    {FUSE_RMDIR, 0, 1},
    {FUSE_RENAME, sizeof(fuse_rename_in), 2},
    {FUSE_OPEN, sizeof(fuse_open_in), 0},
    {FUSE_STATFS, 0, 0},
    {FUSE_RELEASE, sizeof(fuse_release_in), 0},
    {FUSE_FLUSH, sizeof(fuse_flush_in), 0},
    {FUSE_INIT, kShortInit, 0},
    {FUSE_OPENDIR, sizeof(fuse_open_in), 0},
    {FUSE_READDIR, sizeof(fuse_read_in), 0},
    {FUSE_RELEASEDIR, sizeof(fuse_release_in), 0},
    {FUSE_CREATE, sizeof(fuse_create_in), 1},
    {FUSE_DESTROY, 0, 0},
    {FUSE_BATCH_FORGET, sizeof(fuse_batch_forget_in), 0},
    {FUSE_RENAME2, sizeof(fuse_rename2_in), 2},
    {FUSE_LSEEK, sizeof(fuse_lseek_in), 0},
};

}  // namespace

RequestForm form_of(const Request& request) {
  const std::uint32_t opcode = request.header().opcode;
  const auto form =
      std::find_if(std::begin(kForms), std::end(kForms), [&](const Form& f) { return f.opcode == opcode; });
  if (form == std::end(kForms)) return RequestForm::unknown;
  if (!request.has_body(form->body_bytes)) return RequestForm::malformed;
  if (opcode == FUSE_INIT && (request.body<fuse_init_in>().flags & FUSE_INIT_EXT) != 0 &&
      !request.has_body(sizeof(fuse_init_in))) {
    return RequestForm::malformed;
  }
  const char* const body = &request.body<char>();
  const auto ends = std::count(body + form->body_bytes, body + request.length() - sizeof(fuse_in_header), '\0');
  return ends >= form->names ? RequestForm::whole : RequestForm::malformed;
}

bool goes_unanswered(std::uint32_t opcode) {
  return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_NOTIFY_REPLY;
}

}  // namespace pcache
