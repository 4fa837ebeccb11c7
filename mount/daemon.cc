#include "mount/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <utility>

#include "base/dead_mount.h"
#include "base/size_text.h"
#include "base/unique_fd.h"
#include "control/control_server.h"
#include "mount/capabilities.h"
#include "mount/configured_devices.h"
#include "mount/fuse_ops.h"
#include "mount/log.h"
#include "mount/service.h"
#include "mount/umount_note.h"
#include "pcache/device_manager.h"

namespace pcache {
namespace {

// The canonical mount point. Errors as run_mount().
Result<std::string> check_mount_point(const std::string& path) {
  if (is_dead_mount(path)) {
    return Status(Errc::busy, path + " is a mount whose daemon is dead; take it down with pcachefs umount " + path);
  }
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) {
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

// What came of the start: why there is no mount, or what is missing in it.
struct Started {
  Status status;
  std::vector<std::string> problems;
};

// What the background process tells the one that started it: one byte of Errc, the message, and each problem behind a
// zero byte.
void send_report(int fd, const Started& started) {
  std::string report = static_cast<char>(started.status.code()) + started.status.message();
  for (const std::string& problem : started.problems) report += '\0' + problem;
  for (std::size_t sent = 0; sent < report.size();) {
    const ssize_t n = write(fd, report.data() + sent, report.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

Started receive_report(int fd) {
  std::string report;
  char piece[512];
  for (;;) {
    const ssize_t n = read(fd, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    report.append(piece, static_cast<std::size_t>(n));
  }
  if (report.empty()) return {Status(Errc::failed, "the daemon ended while it started; see the system log"), {}};
  const auto code = static_cast<Errc>(report.front());
  std::vector<std::string> texts(1);
  for (const char c : report.substr(1)) {
    if (c == '\0') {
      texts.emplace_back();
    } else {
      texts.back() += c;
    }
  }
  Started started{code == Errc::ok ? Status() : Status(code, texts.front()), {}};
  started.problems.assign(texts.begin() + 1, texts.end());
  return started;
}

void log_event(const std::string& severity, const std::string& object, const std::string& message) {
  const auto level = severity == "error"     ? spdlog::level::err
                     : severity == "warning" ? spdlog::level::warn
                                             : spdlog::level::info;
  spdlog::log(level, "{}: {}", object, message);
}

// One line of what is served.
std::string summary(const std::string& mount_point, const StatusReport& report) {
  std::uint64_t dirty = 0;
  for (const LogicDevStats& device : report.logic_devs) dirty += device.dirty_bytes;
  const std::size_t count = report.logic_devs.size();
  return "serving " + mount_point + ": " + std::to_string(count) +
         (count == 1 ? " logical device" : " logical devices") + ", " + format_size(dirty) + " dirty";
}

// Tells the service manager how far the recovery is, as often as there is another percent of it.
std::function<void(const RecoveryProgress&)> recovery_teller(const Service& service) {
  return [&service, told = std::string()](const RecoveryProgress& now) mutable {
    const std::uint64_t percent = now.segments == 0 ? 100 : now.segments_done * 100 / now.segments;
    std::string text = "recovering " + now.cache_dev + ": " + std::to_string(percent) + " %";
    if (text != told) service.says(text);
    told = std::move(text);
  };
}

// Returns when somebody wants the mount to end. A hang-up is none who does: of a terminal that went away, or of an
// administrator who is used to daemons that read their configuration again.
void wait_for_end(int signal_fd, int umount_fd, int ended_fd) {
  pollfd events[] = {{signal_fd, POLLIN, 0}, {umount_fd, POLLIN, 0}, {ended_fd, POLLIN, 0}};
  for (;;) {
    if (poll(events, 3, -1) < 0) continue;  // EINTR
    if (events[1].revents != 0 || events[2].revents != 0) return;
    signalfd_siginfo signal{};
    if (read(signal_fd, &signal, sizeof signal) != sizeof signal) continue;
    if (signal.ssi_signo != SIGHUP) return;
    spdlog::warn("SIGHUP is ignored; pcachefs restore FILE makes a running mount what a configuration says");
  }
}

// Serves until the end. `ready` is called once: when the mount is ready, or why it cannot be.
Status serve(const MountConfig& config, const std::string& mount_point, const Service& service,
             const std::function<void(const Started&)>& ready) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  const UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC));
  const UniqueFd umount_fd(eventfd(0, EFD_CLOEXEC));
  const auto fail = [&ready](const Status& status) {
    ready({status, {}});
    return status;
  };
  if (!signal_fd || !umount_fd) return fail(Status::from_errno(errno, "cannot mount at " + mount_point));

  if (Status status = drop_capabilities(!config.http.empty()); !status.ok()) return fail(status);
  // It makes a thread, which has the capabilities and the signals of this one.
  if (Status status = start_logging(config.foreground, config.log_level); !status.ok()) return fail(status);
  auto manager = DeviceManager::create();
  manager->on_recovery(recovery_teller(service));
  for (const std::string& cache : config.caches) {
    service.says("opening cache device " + cache);
    if (Status status = manager->open_cache_dev(cache, config.options); !status.ok()) return fail(status);
  }
  service.says("opening what is configured");
  auto configured = std::make_unique<ConfiguredDevices>(config.config, config.options, *manager);
  const std::vector<std::string> problems = configured->bring_up();
  std::atomic<bool> is_ready{false};
  const ControlListener listener{[&](const StatusReport& report) {
                                   if (is_ready) service.alive(summary(mount_point, report));
                                 },
                                 log_event};
  auto control = ControlServer::start(
      mount_point, *manager, [&umount_fd] { eventfd_write(umount_fd.get(), 1); },
      {config.http, [&configured](const std::string& path) { return configured->open_cache_dev(path); }, listener});
  if (!control) return fail(control.status());
  auto mount = FuseMount::mount(mount_point, {.allow_other = config.allow_other, .source = config.source}, *manager,
                                &(*control)->tree());
  if (!mount) return fail(mount.status());
  if (Status status = (*mount)->start(); !status.ok()) return fail(status);
  manager->on_file_changed([&mount](std::uint64_t inode) { (*mount)->attributes_changed(inode); });
  if (struct stat st{}; stat(mount_point.c_str(), &st) == 0) manager->exclude_filesystem(st.st_dev);
  spdlog::info("serving {}", mount_point);
  note_for_umount(config.source, mount_point);
  service.ready(summary(mount_point, manager->status()));
  is_ready = true;
  ready({Status(), problems});

  wait_for_end(signal_fd.get(), umount_fd.get(), (*mount)->ended_fd());
  spdlog::info("closing {}", mount_point);
  is_ready = false;
  service.stopping("closing " + mount_point + ": what is under way ends first");
  // No new request and no command comes any more; then the devices answer what is under way (what waits for space they
  // give up) and everything is closed, which who asks can see; then the mount goes.
  (*mount)->stop();
  (*control)->end_commands();
  configured.reset();
  manager.reset();
  control->reset();
  (*mount)->unmount();
  forget_for_umount(mount_point);
  return Status();
}

}  // namespace

Status run_mount(const MountConfig& config, std::vector<std::string>& problems) {
  const auto mount_point = check_mount_point(config.mount_point);
  if (!mount_point) return mount_point.status();
  if (config.foreground) {
    // It logs its problems to where they are seen.
    const Status ended = serve(config, *mount_point, Service::from_environment(), [](const Started&) {});
    if (!end_logging()) _exit(exit_code(ended.code()));  // it could not say more, and would wait for that
    return ended;
  }

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Status::from_errno(errno, "cannot start the daemon");
  UniqueFd from_daemon(ends[0]);
  UniqueFd to_starter(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return Status::from_errno(errno, "cannot start the daemon");
  if (pid != 0) {
    to_starter.reset();
    Started started = receive_report(from_daemon.get());
    if (!started.status.ok()) waitpid(pid, nullptr, 0);
    problems = std::move(started.problems);
    return started.status;
  }

  from_daemon.reset();
  setsid();
  if (chdir("/") != 0) _exit(1);
  const auto tell_starter = [&](const Started& outcome) {
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null.get(), fd);
    send_report(to_starter.get(), outcome);
    to_starter.reset();
  };
  // Who starts a daemon in the background is the service, if anybody is.
  const Status status = serve(config, *mount_point, Service(), tell_starter);
  end_logging();
  _exit(exit_code(status.code()));
}

}  // namespace pcache
