#include "mount/fuse_ops.h"

#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/no_throw.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "mount/capabilities.h"
#include "mount/request_form.h"

namespace pcache {
namespace {

constexpr double kTimeoutSeconds = 1.0;  // devices come and go

DeviceManager& manager_of(fuse_req_t req) { return *static_cast<DeviceManager*>(fuse_req_userdata(req)); }

// Of an inode that is not there any more: the kernel looks its name up again, under which another one may be by now.
constexpr int kGone = ESTALE;

std::shared_ptr<LogicDev> device_of(fuse_req_t req, fuse_ino_t inode) { return manager_of(req).find_inode(inode); }

struct stat root_attributes() {
  struct stat st {};
  st.st_ino = FUSE_ROOT_ID;
  st.st_mode = S_IFDIR | 0755;
  st.st_nlink = 2;
  st.st_uid = geteuid();
  st.st_gid = getegid();
  return st;
}

struct stat attributes(const LogicDev& device) {
  struct stat st {};
  st.st_ino = device.inode();
  const LogicDev::FileAccess access = device.file_access();
  st.st_mode = S_IFREG | access.permissions;
  st.st_nlink = 1;
  st.st_uid = access.uid == kDaemonsId ? geteuid() : static_cast<uid_t>(access.uid);
  st.st_gid = access.gid == kDaemonsId ? getegid() : static_cast<gid_t>(access.gid);
  st.st_size = static_cast<off_t>(device.size_bytes());
  st.st_blksize = static_cast<blksize_t>(kBlockSize);
  st.st_blocks = static_cast<blkcnt_t>(device.size_bytes() / 512);
  return st;
}

// --- Files

// Closing a file promises nothing; ENOSYS would make the kernel stop asking, and 0 is as good.
void on_flush(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, 0); }

void reply_entry(fuse_req_t req, const LogicDev& device) {
  fuse_entry_param entry{};
  entry.ino = device.inode();
  entry.attr = attributes(device);
  entry.attr_timeout = kTimeoutSeconds;
  entry.entry_timeout = kTimeoutSeconds;
  fuse_reply_entry(req, &entry);
}

void on_init(void*, fuse_conn_info* connection) {
  connection->max_write = Request::kMaxData;
  connection->max_background = 256;
  connection->congestion_threshold = 192;
  // Requests are read into memory of ours, so there is nothing to splice. O_TRUNC comes as a size of 0, to be ignored:
  // handled inside open, the kernel would believe the file to be empty from then on.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                                             FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE);
  connection->want |= connection->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS);
}

void on_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  const auto device = parent == FUSE_ROOT_ID ? manager_of(req).find(name) : nullptr;
  if (!device) return void(fuse_reply_err(req, ENOENT));
  reply_entry(req, *device);
}

void on_getattr(fuse_req_t req, fuse_ino_t inode, fuse_file_info*) {
  if (inode == FUSE_ROOT_ID) {
    const struct stat st = root_attributes();
    return void(fuse_reply_attr(req, &st, kTimeoutSeconds));
  }
  const auto device = device_of(req, inode);
  if (!device) return void(fuse_reply_err(req, kGone));
  const struct stat st = attributes(*device);
  fuse_reply_attr(req, &st, kTimeoutSeconds);
}

// Owner and permissions are settings (`pcachefs set`). The size is fixed. open(O_TRUNC) and truncate(path, 0) arrive
// alike, without a handle, as a size of 0: both are ignored, as a block device does with the first.
void on_setattr(fuse_req_t req, fuse_ino_t inode, struct stat* wanted, int what, fuse_file_info* info) {
  const auto device = device_of(req, inode);
  if (!device) return void(fuse_reply_err(req, inode == FUSE_ROOT_ID ? EPERM : kGone));
  if ((what & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0)
    return void(fuse_reply_err(req, EPERM));
  if ((what & FUSE_SET_ATTR_SIZE) != 0) {
    const bool unchanged = static_cast<std::uint64_t>(wanted->st_size) == device->size_bytes();
    const bool open_truncates = wanted->st_size == 0 && info == nullptr;
    if (!unchanged && !open_truncates) return void(fuse_reply_err(req, EPERM));
  }
  const struct stat st = attributes(*device);
  fuse_reply_attr(req, &st, kTimeoutSeconds);
}

// By hand, since libfuse 3.14 knows no flag for parallel direct writes. Every open is direct: one cached open would put
// the inode into cached mode, where they are off.
void on_open(fuse_req_t req, fuse_ino_t inode, fuse_file_info*) {
  if (!device_of(req, inode)) return void(fuse_reply_err(req, inode == FUSE_ROOT_ID ? EISDIR : kGone));
  DeviceManager& manager = manager_of(req);
  manager.file_opened(inode);
  fuse_open_out reply{};
  reply.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
  // One that was interrupted is not released.
  const int error = fuse_reply_buf(req, reinterpret_cast<const char*>(&reply), sizeof reply);
  if (error == -ENOENT) manager.file_closed(inode);
}

void on_release(fuse_req_t req, fuse_ino_t inode, fuse_file_info*) {
  manager_of(req).file_closed(inode);
  fuse_reply_err(req, 0);
}

void on_readdir(fuse_req_t req, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info*) {
  if (inode != FUSE_ROOT_ID) return void(fuse_reply_err(req, ENOTDIR));
  struct Name {
    std::string name;
    fuse_ino_t inode;
    mode_t mode;
  };
  std::vector<Name> names = {{".", FUSE_ROOT_ID, S_IFDIR}, {"..", FUSE_ROOT_ID, S_IFDIR}};
  for (const auto& device : manager_of(req).list()) names.push_back({device->name(), device->inode(), S_IFREG});
  std::vector<char> reply(std::min<std::size_t>(size, 64 * 1024));
  std::size_t used = 0;
  for (auto i = static_cast<std::size_t>(std::max<off_t>(offset, 0)); i < names.size(); ++i) {
    struct stat st {};
    st.st_ino = names[i].inode;
    st.st_mode = names[i].mode;
    const std::size_t length = fuse_add_direntry(req, reply.data() + used, reply.size() - used, names[i].name.c_str(),
                                                 &st, static_cast<off_t>(i + 1));
    if (length > reply.size() - used) break;
    used += length;
  }
  fuse_reply_buf(req, reply.data(), used);
}

void on_statfs(fuse_req_t req, fuse_ino_t) {
  struct statvfs fs {};
  fs.f_bsize = fs.f_frsize = kBlockSize;
  fs.f_namemax = 255;
  for (const auto& device : manager_of(req).list()) {
    fs.f_blocks += device->size_bytes() / kBlockSize;
    ++fs.f_files;
  }
  fuse_reply_statfs(req, &fs);
}

void on_lseek(fuse_req_t req, fuse_ino_t inode, off_t offset, int whence, fuse_file_info*) {
  const auto device = device_of(req, inode);
  if (!device) return void(fuse_reply_err(req, EIO));
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return void(fuse_reply_err(req, EINVAL));
  if (offset < 0) return void(fuse_reply_err(req, ENXIO));
  auto found = static_cast<std::uint64_t>(offset);
  const int error = device->seek(whence == SEEK_DATA ? LogicDev::Seek::data : LogicDev::Seek::hole, found);
  if (error != 0) return void(fuse_reply_err(req, error));
  fuse_reply_lseek(req, static_cast<off_t>(found));
}

// Files come with `pcachefs add` and go with `pcachefs remove`.
void on_unlink(fuse_req_t req, fuse_ino_t, const char*) { fuse_reply_err(req, EPERM); }
void on_create(fuse_req_t req, fuse_ino_t, const char*, mode_t, fuse_file_info*) { fuse_reply_err(req, EPERM); }
void on_mkdir(fuse_req_t req, fuse_ino_t, const char*, mode_t) { fuse_reply_err(req, EPERM); }
void on_mknod(fuse_req_t req, fuse_ino_t, const char*, mode_t, dev_t) { fuse_reply_err(req, EPERM); }
void on_rename(fuse_req_t req, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) {
  fuse_reply_err(req, EPERM);
}

// --- What libfuse reads and writes with

// Of the request that the calling thread has given to libfuse: its operations all answer before they return.
thread_local int answer_fd = -1;

ssize_t answer_request(int, iovec* parts, int count, void*) { return writev(answer_fd, parts, count); }

// It is never asked to read: the transport does.
ssize_t read_nothing(int, void*, std::size_t, void*) {
  errno = ENOSYS;
  return -1;
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops ops{};
  ops.init = on_init;
  ops.lookup = on_lookup;
  ops.getattr = on_getattr;
  ops.setattr = on_setattr;
  ops.open = on_open;
  ops.release = on_release;
  ops.flush = on_flush;
  ops.lseek = on_lseek;
  ops.readdir = on_readdir;
  ops.statfs = on_statfs;
  ops.create = on_create;
  ops.mkdir = on_mkdir;
  ops.mknod = on_mknod;
  ops.unlink = on_unlink;
  ops.rmdir = on_unlink;
  ops.rename = on_rename;
  return ops;
}

}  // namespace

Status FuseMount::begin_session(const FuseOptions& fuse_options, DeviceManager& manager) {
  std::string program = "pcachefs";
  std::string flag = "-o";
  std::string options = "subtype=pcachefs,default_permissions,fsname=";
  for (const char c : fuse_options.source) options += c == ',' || c == '\\' ? std::string{'\\', c} : std::string{c};
  if (fuse_options.allow_other) options += ",allow_other";
  char* argv[] = {program.data(), flag.data(), options.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, argv);
  const fuse_lowlevel_ops ops = operations();
  session_ = fuse_session_new(&args, &ops, sizeof ops, &manager);
  fuse_opt_free_args(&args);
  return session_ != nullptr ? Status() : Status(Errc::failed, "cannot set up a FUSE session");
}

// Gives libfuse our own reading and writing; `fd` becomes the session's, which closes it.
Status FuseMount::answer_through(int fd) {
  fuse_custom_io io{};
  io.writev = answer_request;
  io.read = read_nothing;
  if (fuse_session_custom_io(session_, &io, fd) == 0) return Status();
  return Status(Errc::failed, "cannot set up the answers of a FUSE session");
}

FuseMount::FuseMount(DeviceManager& manager, ControlTree* tree) : data_path_(manager) {
  if (tree == nullptr) return;
  control_files_.emplace(*tree);
  attributes_.emplace(manager, *tree);
}

Result<std::unique_ptr<FuseMount>> FuseMount::mount(const std::string& mount_point, const FuseOptions& options,
                                                    DeviceManager& manager, ControlTree* tree) {
  return no_throw("cannot mount at " + mount_point, [&] { return mount_checked(mount_point, options, manager, tree); });
}

Result<std::unique_ptr<FuseMount>> FuseMount::mount_checked(const std::string& mount_point, const FuseOptions& options,
                                                            DeviceManager& manager, ControlTree* tree) {
  std::unique_ptr<FuseMount> mount(new FuseMount(manager, tree));
  if (Status status = mount->begin_session(options, manager); !status.ok()) return status;
  {
    const PrivilegeToMount privilege;
    if (fuse_session_mount(mount->session_, mount_point.c_str()) != 0) {
      return Status(errno == EPERM || errno == EACCES ? Errc::permission : Errc::failed,
                    "cannot mount at " + mount_point + ": " + std::strerror(errno));
    }
  }
  mount->mounted_ = true;
  const int fd = fuse_session_fd(mount->session_);
  if (Status status = mount->answer_through(fd); !status.ok()) return status;
  auto transport = Transport::open(fd, options.seats, *mount);
  if (!transport) return transport.status();
  mount->transport_ = std::move(*transport);
  return mount;
}

Result<std::unique_ptr<FuseMount>> FuseMount::without_kernel(DeviceManager& manager, ControlTree* tree) {
  std::unique_ptr<FuseMount> mount(new FuseMount(manager, tree));
  if (Status status = mount->begin_session({}, manager); !status.ok()) return status;
  UniqueFd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing) return Status::from_errno(errno, "cannot open /dev/null");
  if (Status status = mount->answer_through(nothing.get()); !status.ok()) return status;
  nothing.release();
  return mount;
}

FuseMount::~FuseMount() {
  if (transport_) stop();
  if (mounted_) unmount();
  if (session_ != nullptr) fuse_session_destroy(session_);
}

void FuseMount::attributes_changed(std::uint64_t inode) {
  answer_fd = fuse_session_fd(session_);
  fuse_lowlevel_notify_inval_inode(session_, inode, -1, 0);  // an inode that the kernel does not know needs no telling
}

bool FuseMount::arrived(Request& request) {
  request.operation = nullptr;
  if (control_files_ && ControlFiles::takes(request)) return false;
  return data_path_.admit(request);
}

void FuseMount::serve(std::unique_ptr<Request> request) {
  if (data_path_.handle(request)) return;
  if (control_files_ && ControlFiles::takes(*request)) return control_files_->serve(std::move(request));
  if (attributes_ && DeviceAttributes::takes(*request)) return attributes_->serve(std::move(request));
  const RequestForm form = form_of(*request);
  if (form == RequestForm::whole) {
    fuse_buf buffer{};
    buffer.mem = request->space().data();
    buffer.size = request->length();
    answer_fd = request->fd();
    fuse_session_process_buf(session_, &buffer);
  } else if (!goes_unanswered(request->header().opcode)) {
    // Of FUSE_INTERRUPT too the kernel need not ask again: nothing here can be interrupted.
    request->reply(form == RequestForm::malformed ? EINVAL : ENOSYS);
  }
  RequestPool::give_back(std::move(request));
}

void FuseMount::unmount() {
  if (transport_) transport_->wait_idle();
  if (mounted_) {
    const PrivilegeToMount privilege;
    fuse_session_unmount(session_);
  }
  mounted_ = false;
}

}  // namespace pcache
