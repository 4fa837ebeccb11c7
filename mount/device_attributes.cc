#include "mount/device_attributes.h"

#include <linux/xattr.h>

#include <cerrno>
#include <cstddef>

#include "mount/control_request.h"

namespace pcache {
namespace {

constexpr std::string_view kPrefix = "user.pcachefs.";

// What is before the name of an attribute. The longer form of setting one is not asked for at the beginning.
constexpr std::size_t kSetBytes = offsetof(fuse_setxattr_in, setxattr_flags);

std::size_t name_at(std::uint32_t opcode) {
  return opcode == FUSE_SETXATTR ? kSetBytes : opcode == FUSE_GETXATTR ? sizeof(fuse_getxattr_in) : 0;
}

// As much as was asked for; how much there is where that is nothing.
void answer_sized(std::unique_ptr<Request> request, std::string_view bytes) {
  const std::uint32_t room = request->body<fuse_getxattr_in>().size;
  if (room == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<std::uint32_t>(bytes.size());
    return answer_with(std::move(request), out);
  }
  if (room < bytes.size()) return refuse(std::move(request), ERANGE);
  answer_bytes(std::move(request), std::as_bytes(std::span(bytes)));
}

}  // namespace

bool DeviceAttributes::takes(const Request& request) {
  const fuse_in_header& header = request.header();
  switch (header.opcode) {
    case FUSE_GETXATTR:
    case FUSE_SETXATTR:
    case FUSE_LISTXATTR:
    case FUSE_REMOVEXATTR:
      return !ControlTree::owns(header.nodeid);
    default:
      return false;
  }
}

void DeviceAttributes::serve(std::unique_ptr<Request> request) {
  const std::uint32_t opcode = request->header().opcode;
  if (opcode == FUSE_LISTXATTR || opcode == FUSE_GETXATTR) {
    if (!request->has_body(sizeof(fuse_getxattr_in))) return refuse(std::move(request), EINVAL);
  }
  if (opcode == FUSE_SETXATTR && !request->has_body(kSetBytes)) return refuse(std::move(request), EINVAL);
  if (opcode != FUSE_LISTXATTR) {
    const auto name = name_in(*request, name_at(opcode));
    if (!name) return refuse(std::move(request), EINVAL);
    if (!name->starts_with(kPrefix)) return refuse(std::move(request), opcode == FUSE_SETXATTR ? EOPNOTSUPP : ENODATA);
  }
  Request* const raw = request.release();
  if (!tree_.run([this, raw] { answer(std::unique_ptr<Request>(raw)); })) {
    refuse(std::unique_ptr<Request>(raw), ENOMEM);
  }
}

void DeviceAttributes::answer(std::unique_ptr<Request> request) {
  const std::uint32_t opcode = request->header().opcode;
  const auto device = manager_.find_inode(request->header().nodeid);
  const auto directory = device ? tree_.directory_of(device->name()) : std::nullopt;
  if (opcode == FUSE_LISTXATTR)
    return directory ? list(std::move(request), *directory) : answer_sized(std::move(request), "");
  if (!directory) return refuse(std::move(request), ENODATA);
  const std::string_view name = *name_in(*request, name_at(opcode));
  const std::string key(name.substr(kPrefix.size()));
  const auto node = tree_.lookup(*directory, key);
  if (!node || node->directory) return refuse(std::move(request), opcode == FUSE_SETXATTR ? EOPNOTSUPP : ENODATA);
  if (opcode == FUSE_GETXATTR) {
    auto value = tree_.read(node->inode);
    if (!value) return refuse(std::move(request), to_errno(value.status().code()));
    return answer_sized(std::move(request), std::string_view(*value).substr(0, value->size() - 1));
  }
  if (!is_owner(*request)) return refuse(std::move(request), EPERM);
  if (opcode == FUSE_REMOVEXATTR) return tree_.remove(*directory, key, answer_when_done(std::move(request)));
  const auto& in = request->body<fuse_setxattr_in>();
  const std::size_t value_at = kSetBytes + name.size() + 1;
  if (in.size != request->length() - sizeof(fuse_in_header) - value_at) return refuse(std::move(request), EINVAL);
  if ((in.flags & XATTR_CREATE) != 0) return refuse(std::move(request), EEXIST);
  const std::string text(&request->body<char>() + value_at, in.size);
  tree_.write(node->inode, text, answer_when_done(std::move(request)));
}

// What can be changed is not listed: a tool that copies a file with its attributes changes nothing here, and copies no
// settings from here into files that would bring them back some day.
void DeviceAttributes::list(std::unique_ptr<Request> request, std::uint64_t directory) {
  std::string names;
  for (const TreeNode& node : tree_.list(directory)) {
    if (!node.directory && node.readable && !node.writable && !node.removable)
      names.append(kPrefix).append(node.name).push_back('\0');
  }
  answer_sized(std::move(request), names);
}

}  // namespace pcache
