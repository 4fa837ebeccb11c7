#include "mount/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>

#include "base/unique_fd.h"
#include "control/control_server.h"
#include "mount/fuse_ops.h"
#include "pcache/device_manager.h"

namespace pcache {
namespace {

// The canonical mount point. Errors as run_mount().
Result<std::string> check_mount_point(const std::string& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) {
    if (errno == ENOTCONN) {
      return Status(Errc::busy, path + " is a mount whose daemon is dead; take it down with pcachefs umount " + path);
    }
    if (errno == ENOENT) return Status(Errc::not_found, "mount point " + path + " does not exist; make it with mkdir");
    return Status::from_errno(errno, "cannot use mount point " + path);
  }
  if (!S_ISDIR(st.st_mode)) return Status(Errc::invalid, "mount point " + path + " is not a directory");
  std::error_code error;
  const std::string canonical = std::filesystem::canonical(path, error).string();
  if (error) return Status::from_errno(error.value(), "cannot use mount point " + path);
  struct stat parent {};
  if (stat((canonical + "/..").c_str(), &parent) == 0 && (parent.st_dev != st.st_dev || parent.st_ino == st.st_ino)) {
    return Status(Errc::busy, "something is mounted at " + path + " already; choose another directory or unmount it");
  }
  return canonical;
}

// What the background process tells the one that started it: one byte of Errc, then the message.
void send_report(int fd, const Status& status) {
  const std::string report = static_cast<char>(status.code()) + status.message();
  for (std::size_t sent = 0; sent < report.size();) {
    const ssize_t n = write(fd, report.data() + sent, report.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

Status receive_report(int fd) {
  std::string report;
  char piece[512];
  for (;;) {
    const ssize_t n = read(fd, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    report.append(piece, static_cast<std::size_t>(n));
  }
  if (report.empty()) return Status(Errc::failed, "the daemon ended while it started; see the system log");
  const auto code = static_cast<Errc>(report.front());
  return code == Errc::ok ? Status() : Status(code, report.substr(1));
}

void log_devices(const StatusReport& report) {
  for (const CacheDevStats& cache : report.cache_devs) {
    spdlog::info("cache device {} ({}): granularity {}, ack={}", cache.label, cache.path, cache.granularity, cache.ack);
    if (cache.damaged_records != 0)
      spdlog::error("cache device {}: {} key records are damaged", cache.label, cache.damaged_records);
  }
  for (const LogicDevStats& device : report.logic_devs) {
    if (device.state == "running") {
      spdlog::info("logical device {}: {} dirty bytes", device.name, device.dirty_bytes);
    } else {
      spdlog::warn("logical device {} is {}: {}", device.name, device.state, device.detail);
    }
  }
}

// Serves until the end. `ready` is called once: when the mount is ready, or why it cannot be.
Status serve(const MountConfig& config, const std::string& mount_point,
             const std::function<void(const Status&)>& ready) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  const UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC));
  const UniqueFd umount_fd(eventfd(0, EFD_CLOEXEC));
  const auto fail = [&ready](const Status& status) {
    ready(status);
    return status;
  };
  if (!signal_fd || !umount_fd) return fail(Status::from_errno(errno, "cannot mount at " + mount_point));

  auto manager = DeviceManager::create();
  for (const std::string& cache : config.caches) {
    if (Status status = manager->open_cache_dev(cache, config.options); !status.ok()) return fail(status);
  }
  auto control = ControlServer::start(mount_point, *manager, [&umount_fd] { eventfd_write(umount_fd.get(), 1); },
                                      {config.http, config.options});
  if (!control) return fail(control.status());
  auto mount = FuseMount::mount(mount_point, {.allow_other = config.allow_other}, *manager);
  if (!mount) return fail(mount.status());
  if (Status status = (*mount)->start(); !status.ok()) return fail(status);
  manager->on_resize([&mount](std::uint64_t inode) { (*mount)->size_changed(inode); });
  if (struct stat st{}; stat(mount_point.c_str(), &st) == 0) manager->exclude_filesystem(st.st_dev);
  log_devices(manager->status());
  spdlog::info("serving {}", mount_point);
  ready(Status());

  pollfd events[] = {{signal_fd.get(), POLLIN, 0}, {umount_fd.get(), POLLIN, 0}, {(*mount)->ended_fd(), POLLIN, 0}};
  while (poll(events, 3, -1) < 0 && errno == EINTR) {
  }
  spdlog::info("closing {}", mount_point);
  // No new request and no command comes any more; then the devices answer what is under way (what waits for space they
  // give up) and everything is closed; then the mount goes.
  (*mount)->stop();
  control->reset();
  manager.reset();
  (*mount)->unmount();
  return Status();
}

}  // namespace

Status run_mount(const MountConfig& config) {
  const auto mount_point = check_mount_point(config.mount_point);
  if (!mount_point) return mount_point.status();
  if (config.foreground) {
    spdlog::set_default_logger(spdlog::stderr_color_mt("pcachefs"));
    return serve(config, *mount_point, [](const Status&) {});
  }

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Status::from_errno(errno, "cannot start the daemon");
  UniqueFd from_daemon(ends[0]);
  UniqueFd to_starter(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return Status::from_errno(errno, "cannot start the daemon");
  if (pid != 0) {
    to_starter.reset();
    const Status status = receive_report(from_daemon.get());
    if (!status.ok()) waitpid(pid, nullptr, 0);
    return status;
  }

  from_daemon.reset();
  setsid();
  if (chdir("/") != 0) _exit(1);
  spdlog::set_default_logger(spdlog::syslog_logger_mt("pcachefs", "pcachefs", LOG_PID, LOG_DAEMON));
  const Status status = serve(config, *mount_point, [&](const Status& outcome) {
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null.get(), fd);
    send_report(to_starter.get(), outcome);
    to_starter.reset();
  });
  _exit(exit_code(status.code()));
}

}  // namespace pcache
