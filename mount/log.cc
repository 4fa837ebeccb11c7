#include "mount/log.h"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/sinks/systemd_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <thread>

#include "base/log_level.h"
#include "base/no_throw.h"

namespace pcache {
namespace {

constexpr const char* kName = "pcachefs";
constexpr std::size_t kQueued = 1024;  // lines
constexpr std::chrono::seconds kEndPatience{3};

// The service manager says which stream it has connected to the journal (systemd.exec(5)); another may be in its place.
bool stderr_is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat st {};
  return stream != nullptr && fstat(STDERR_FILENO, &st) == 0 &&
         stream == std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino);
}

bool there_is_a_journal() {
  struct stat st {};
  return stat("/run/systemd/journal/socket", &st) == 0 && S_ISSOCK(st.st_mode);
}

}  // namespace

Status start_logging(bool foreground, const std::string& level) {
  if (Status status = check_log_level(level); !status.ok()) return status;
  using Factory = spdlog::async_factory_nonblock;  // where the queue is full, the oldest goes
  return no_throw("cannot log", [&] {
    spdlog::init_thread_pool(kQueued, 1);
    if (foreground ? stderr_is_journal() : there_is_a_journal()) {
      spdlog::set_default_logger(spdlog::systemd_logger_mt<Factory>(kName, kName));
    } else if (foreground) {
      spdlog::set_default_logger(Factory::create<spdlog::sinks::stderr_color_sink_mt>(kName));
    } else {
      spdlog::set_default_logger(spdlog::syslog_logger_mt<Factory>(kName, kName, LOG_PID, LOG_DAEMON));
    }
    spdlog::set_level(spdlog::level::from_str(level));
    return Status();
  });
}

bool end_logging() {
  const auto ended = std::make_shared<std::promise<void>>();
  std::thread([ended] {
    spdlog::shutdown();
    ended->set_value();
  }).detach();
  return ended->get_future().wait_for(kEndPatience) == std::future_status::ready;
}

}  // namespace pcache
