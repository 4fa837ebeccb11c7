#include "mount/control_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <new>
#include <string_view>
#include <utility>

#include "mount/control_request.h"

namespace pcache {
namespace {

constexpr std::uint32_t kFileSize = 4096;  // that files are said to have, as in sysfs; they end where their value does

// Whoever may not write gets EPERM from us, so that the mode lets everybody try; for what is removed, which the kernel
// asks the directory about, the sticky bit says EPERM.
std::uint32_t mode_of(const TreeNode& node) {
  if (node.directory) return S_IFDIR | S_ISVTX | 0777;
  return S_IFREG | (node.readable ? 0444U : 0U) | (node.writable ? 0222U : 0U);
}

fuse_attr attributes(const TreeNode& node) {
  fuse_attr attr{};
  attr.ino = node.inode;
  attr.size = node.directory ? 0 : kFileSize;
  attr.mode = mode_of(node);
  attr.nlink = node.directory ? 2 : 1;
  attr.uid = geteuid();
  attr.gid = getegid();
  attr.blksize = kFileSize;
  return attr;
}

// Nothing is kept by the kernel: devices come and go.
fuse_attr_out attributes_answer(const TreeNode& node) {
  fuse_attr_out out{};
  out.attr = attributes(node);
  return out;
}

}  // namespace

// What the kernel may ask of a directory or file here. ENOSYS would end some operations for the whole mount.
struct ControlFiles::Operation {
  std::uint32_t opcode;
  std::size_t body_bytes;
  void (ControlFiles::*start)(std::unique_ptr<Request>);  // null: refused with `error`, at once
  int error;
};

const ControlFiles::Operation* ControlFiles::find_operation(std::uint32_t opcode) {
  static constexpr Operation kOperations[] = {
      {FUSE_LOOKUP, 1, &ControlFiles::lookup, 0},
      {FUSE_GETATTR, 0, &ControlFiles::get_attributes, 0},
      {FUSE_SETATTR, sizeof(fuse_setattr_in), &ControlFiles::set_attributes, 0},
      {FUSE_OPEN, sizeof(fuse_open_in), &ControlFiles::open, 0},
      {FUSE_OPENDIR, sizeof(fuse_open_in), &ControlFiles::open_directory, 0},
      {FUSE_READ, sizeof(fuse_read_in), &ControlFiles::read, 0},
      {FUSE_WRITE, sizeof(fuse_write_in), &ControlFiles::write, 0},
      {FUSE_READDIR, sizeof(fuse_read_in), &ControlFiles::list, 0},
      {FUSE_RELEASE, sizeof(fuse_release_in), &ControlFiles::release, 0},
      {FUSE_RELEASEDIR, 0, nullptr, 0},
      {FUSE_FLUSH, 0, nullptr, 0},
      {FUSE_FSYNC, 0, nullptr, 0},
      {FUSE_FSYNCDIR, 0, nullptr, 0},
      {FUSE_UNLINK, 1, &ControlFiles::unlink, 0},
      {FUSE_RMDIR, 0, nullptr, EPERM},
      {FUSE_MKDIR, 0, nullptr, EPERM},
      {FUSE_MKNOD, 0, nullptr, EPERM},
      {FUSE_CREATE, 0, nullptr, EPERM},
      {FUSE_RENAME, 0, nullptr, EPERM},
      {FUSE_RENAME2, 0, nullptr, EPERM},
      {FUSE_LINK, 0, nullptr, EPERM},
      {FUSE_SYMLINK, 0, nullptr, EPERM},
      {FUSE_LSEEK, 0, nullptr, EINVAL},
      {FUSE_FALLOCATE, 0, nullptr, EOPNOTSUPP},
      {FUSE_GETXATTR, 0, nullptr, EOPNOTSUPP},
      {FUSE_SETXATTR, 0, nullptr, EOPNOTSUPP},
      {FUSE_LISTXATTR, 0, nullptr, EOPNOTSUPP},
      {FUSE_REMOVEXATTR, 0, nullptr, EOPNOTSUPP},
  };
  const auto* const found = std::find_if(std::begin(kOperations), std::end(kOperations),
                                         [opcode](const Operation& o) { return o.opcode == opcode; });
  return found == std::end(kOperations) ? nullptr : found;
}

bool ControlFiles::takes(const Request& request) {
  const fuse_in_header& header = request.header();
  if (header.opcode == FUSE_LOOKUP && header.nodeid == FUSE_ROOT_ID) {
    return name_in(request, 0) == std::string_view(ControlTree::kName);
  }
  return ControlTree::owns(header.nodeid) && find_operation(header.opcode) != nullptr;
}

void ControlFiles::serve(std::unique_ptr<Request> request) {
  const Operation& operation = *find_operation(request->header().opcode);
  if (!request->has_body(operation.body_bytes)) return refuse(std::move(request), EINVAL);
  if (operation.start == nullptr) return refuse(std::move(request), operation.error);
  Request* const raw = request.release();
  if (!tree_.run([this, raw] { answer(std::unique_ptr<Request>(raw)); })) {
    refuse(std::unique_ptr<Request>(raw), ENOMEM);
  }
}

void ControlFiles::answer(std::unique_ptr<Request> request) {
  (this->*find_operation(request->header().opcode)->start)(std::move(request));
}

void ControlFiles::lookup(std::unique_ptr<Request> request) {
  const auto name = name_in(*request, 0);
  if (!name) return refuse(std::move(request), EINVAL);
  const bool is_tree = request->header().nodeid == FUSE_ROOT_ID;
  const auto node = is_tree ? tree_.find(ControlTree::kRoot) : tree_.lookup(request->header().nodeid, *name);
  if (!node) return refuse(std::move(request), ENOENT);
  fuse_entry_out out{};
  out.nodeid = node->inode;
  out.attr = attributes(*node);
  answer_with(std::move(request), out);
}

void ControlFiles::get_attributes(std::unique_ptr<Request> request) {
  const auto node = tree_.find(request->header().nodeid);
  if (!node) return refuse(std::move(request), ESTALE);
  answer_with(std::move(request), attributes_answer(*node));
}

// O_TRUNC of what is going to be written to.
void ControlFiles::set_attributes(std::unique_ptr<Request> request) {
  const auto& in = request->body<fuse_setattr_in>();
  const auto node = tree_.find(request->header().nodeid);
  if (!node) return refuse(std::move(request), ESTALE);
  constexpr std::uint32_t kNoChange =
      FATTR_SIZE | FATTR_FH | FATTR_LOCKOWNER | FATTR_KILL_SUIDGID | FATTR_CTIME | FATTR_MTIME | FATTR_MTIME_NOW;
  const bool truncates = (in.valid & FATTR_SIZE) != 0 && in.size == 0;
  if (!node->writable || !truncates || (in.valid & ~kNoChange) != 0) return refuse(std::move(request), EPERM);
  answer_with(std::move(request), attributes_answer(*node));
}

void ControlFiles::open(std::unique_ptr<Request> request) {
  const auto& in = request->body<fuse_open_in>();
  const auto node = tree_.find(request->header().nodeid);
  if (!node) return refuse(std::move(request), ESTALE);
  if (node->directory) return refuse(std::move(request), EISDIR);
  const std::uint32_t access = in.flags & O_ACCMODE;
  if (access != O_RDONLY && !is_owner(*request)) return refuse(std::move(request), EPERM);
  if ((access != O_RDONLY && !node->writable) || (access != O_WRONLY && !node->readable)) {
    return refuse(std::move(request), EACCES);
  }
  fuse_open_out out{};
  out.open_flags = FOPEN_DIRECT_IO;
  if (access != O_WRONLY) {
    auto value = tree_.read(node->inode);
    if (!value) return refuse(std::move(request), to_errno(value.status().code()));
    try {
      opened_.emplace(++last_handle_, std::move(*value));
      out.fh = last_handle_;
    } catch (const std::bad_alloc&) {
      return refuse(std::move(request), ENOMEM);
    }
  }
  answer_with(std::move(request), out);
}

void ControlFiles::open_directory(std::unique_ptr<Request> request) {
  answer_with(std::move(request), fuse_open_out{});
}

void ControlFiles::read(std::unique_ptr<Request> request) {
  const auto& in = request->body<fuse_read_in>();
  std::string now;
  const auto opened = opened_.find(in.fh);
  if (opened == opened_.end()) {
    auto value = tree_.read(request->header().nodeid);
    if (!value) return refuse(std::move(request), to_errno(value.status().code()));
    now = std::move(*value);
  }
  const std::string& value = opened == opened_.end() ? now : opened->second;
  const std::size_t begin = std::min<std::uint64_t>(in.offset, value.size());
  const std::size_t length = std::min<std::size_t>({in.size, value.size() - begin, Request::kMaxData});
  answer_bytes(std::move(request), std::as_bytes(std::span(value)).subspan(begin, length));
}

// Each write is one command, as in sysfs; its offset says nothing.
void ControlFiles::write(std::unique_ptr<Request> request) {
  if (request->body<fuse_write_in>().size != request->written().size()) return refuse(std::move(request), EINVAL);
  if (!is_owner(*request)) return refuse(std::move(request), EPERM);
  const auto written = request->written();
  request->wanted = written.size();
  const std::string text(reinterpret_cast<const char*>(written.data()), written.size());
  const std::uint64_t file = request->header().nodeid;
  tree_.write(file, text, answer_when_done(std::move(request)));
}

void ControlFiles::list(std::unique_ptr<Request> request) {
  const auto& in = request->body<fuse_read_in>();
  const std::uint64_t directory = request->header().nodeid;
  std::vector<TreeNode> nodes = tree_.list(directory);
  if (nodes.empty()) return refuse(std::move(request), ENOTDIR);
  for (const char* const dots : {"..", "."}) nodes.insert(nodes.begin(), {directory, dots, true, true, false, false});
  std::string out;
  for (std::uint64_t i = in.offset; i < nodes.size(); ++i) {
    fuse_dirent entry{};
    entry.ino = nodes[i].inode;
    entry.off = i + 1;
    entry.namelen = static_cast<std::uint32_t>(nodes[i].name.size());
    entry.type = mode_of(nodes[i]) >> 12;
    std::string one(FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen), '\0');
    std::memcpy(one.data(), &entry, FUSE_NAME_OFFSET);
    std::memcpy(one.data() + FUSE_NAME_OFFSET, nodes[i].name.data(), entry.namelen);
    if (out.size() + one.size() > std::min<std::size_t>(in.size, Request::kMaxData)) break;
    out += one;
  }
  answer_bytes(std::move(request), std::as_bytes(std::span(out)));
}

void ControlFiles::release(std::unique_ptr<Request> request) {
  opened_.erase(request->body<fuse_release_in>().fh);
  refuse(std::move(request), 0);
}

void ControlFiles::unlink(std::unique_ptr<Request> request) {
  const auto name = name_in(*request, 0);
  if (!name) return refuse(std::move(request), EINVAL);
  if (!is_owner(*request)) return refuse(std::move(request), EPERM);
  const std::string removed(*name);
  const std::uint64_t parent = request->header().nodeid;
  tree_.remove(parent, removed, answer_when_done(std::move(request)));
}

}  // namespace pcache
