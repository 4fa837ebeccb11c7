#include "control/jobs.h"

#include <algorithm>
#include <system_error>

#include "base/no_throw.h"

namespace pcache {

using nlohmann::json;

void JobRun::left(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  left_bytes_ = bytes;
  total_bytes_ = std::max(total_bytes_, bytes);
}

JobRun::Wish JobRun::wish() const {
  const std::lock_guard lock(mutex_);
  return wish_;
}

Jobs::~Jobs() { stop(); }

void Jobs::stop() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    for (const auto& job : jobs_) {
      const std::lock_guard run_lock(job->run.mutex_);
      job->run.wish_ = JobRun::Wish::stop;
      if (job->thread.joinable()) threads.push_back(std::move(job->thread));
    }
  }
  for (std::thread& thread : threads) thread.join();
}

Result<std::uint64_t> Jobs::begin(const std::string& command, const std::string& object, Body body) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return Status(Errc::busy, "this pcachefs is ending; '" + command + "' was not begun");
  const auto running = std::count_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return !job->ended; });
  if (static_cast<std::size_t>(running) >= kMaxRunning) {
    return Status(Errc::busy, std::to_string(kMaxRunning) + " jobs are under way; wait for one or cancel it");
  }
  forget_old();
  auto job = std::make_unique<Job>();
  job->number = last_number_ + 1;
  job->command = command;
  job->object = object;
  job->begun = Clock::now();
  jobs_.push_back(std::move(job));
  Job& begun = *jobs_.back();
  try {
    begun.thread = std::thread([this, &begun, body = std::move(body)] {
      Status outcome = no_throw("cannot go on with '" + begun.command + "'", [&] { return body(begun.run); });
      const JobRun::Wish wish = begun.run.wish();
      std::vector<Then> waiting;
      {
        const std::lock_guard end_lock(mutex_);
        begun.cancelled = !outcome.ok() && wish != JobRun::Wish::go_on;
        begun.outcome = outcome;
        begun.end = Clock::now();
        begun.ended = true;
        waiting.swap(begun.waiting);
      }
      for (const Then& then : waiting) then(outcome);
    });
  } catch (const std::system_error& error) {
    jobs_.pop_back();
    return Status::from_errno(error.code().value(), "cannot begin '" + command + "'");
  }
  return ++last_number_;
}

// The oldest that have ended go when there are too many. Their threads are at their very end, or tell who waited.
void Jobs::forget_old() {
  auto ended = std::count_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->ended; });
  for (auto it = jobs_.begin(); it != jobs_.end() && static_cast<std::size_t>(ended) >= kEndedKept;) {
    if (!(*it)->ended) {
      ++it;
      continue;
    }
    (*it)->thread.join();
    it = jobs_.erase(it);
    --ended;
  }
}

json Jobs::describe(const Job& job) const {
  const auto ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>((job.ended ? job.end : Clock::now()) - job.begun).count());
  std::uint64_t total = 0;
  std::uint64_t left = 0;
  {
    const std::lock_guard lock(job.run.mutex_);
    total = job.run.total_bytes_;
    left = job.run.left_bytes_;
  }
  const char* state = !job.ended ? "running" : job.outcome.ok() ? "done" : job.cancelled ? "cancelled" : "failed";
  const std::uint64_t done = total - left;
  const auto rate =
      static_cast<std::uint64_t>(ms == 0 ? 0 : static_cast<double>(done) * 1000.0 / static_cast<double>(ms));
  json shown = {{"job", job.number}, {"command", job.command}, {"object", job.object}, {"state", state},
                {"since_ms", ms},    {"total_bytes", total},   {"done_bytes", done},   {"bytes_per_second", rate}};
  if (!job.ended && rate != 0) {
    shown["left_ms"] = static_cast<std::uint64_t>(static_cast<double>(left) * 1000.0 / static_cast<double>(rate));
  }
  if (!job.outcome.ok()) {
    shown["error"] = {{"code", to_string(job.outcome.code())}, {"message", job.outcome.message()}};
  }
  return shown;
}

json Jobs::list() const {
  const std::lock_guard lock(mutex_);
  json jobs = json::array();
  for (const auto& job : jobs_) jobs.push_back(describe(*job));
  return jobs;
}

Result<json> Jobs::show(std::uint64_t number) const {
  const std::lock_guard lock(mutex_);
  for (const auto& job : jobs_) {
    if (job->number == number) return describe(*job);
  }
  return Status(Errc::not_found, "there is no job " + std::to_string(number) + "; pcachefs jobs lists them");
}

Status Jobs::when_ended(std::uint64_t number, Then then) {
  std::unique_lock lock(mutex_);
  for (const auto& job : jobs_) {
    if (job->number != number) continue;
    if (!job->ended) {
      job->waiting.push_back(std::move(then));
      return Status();
    }
    const Status outcome = job->outcome;
    lock.unlock();
    then(outcome);
    return Status();
  }
  return Status(Errc::not_found, "there is no job " + std::to_string(number) + "; pcachefs jobs lists them");
}

Status Jobs::cancel(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  for (const auto& job : jobs_) {
    if (job->number != number) continue;
    if (job->ended) return Status(Errc::invalid, "job " + std::to_string(number) + " has ended already");
    const std::lock_guard run_lock(job->run.mutex_);
    job->run.wish_ = JobRun::Wish::cancel;
    return Status();
  }
  return Status(Errc::not_found, "there is no job " + std::to_string(number) + "; pcachefs jobs lists them");
}

}  // namespace pcache
