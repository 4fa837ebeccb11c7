#include "control/jobs.h"

#include <gtest/gtest.h>

#include <future>

namespace pcache {
namespace {

using nlohmann::json;

// Looks until the job has ended.
json end_of(const Jobs& jobs, std::uint64_t number) {
  for (;;) {
    const auto shown = jobs.show(number);
    if (!shown) return shown.status().message();
    if (shown->at("state") != "running") return *shown;
    std::this_thread::yield();
  }
}

Status until_told(JobRun& run) {
  while (run.wish() == JobRun::Wish::go_on) std::this_thread::yield();
  return Jobs::cancelled();
}

TEST(Jobs, ProgressIsWhatIsGoneOfTheMostThatWasLeft) {
  Jobs jobs;
  std::promise<void> go_on;
  std::promise<void> halfway;
  const auto number = jobs.begin("drain", "d", [&](JobRun& run) {
    run.left(100);
    run.left(400);
    run.left(300);
    halfway.set_value();
    go_on.get_future().wait();
    run.left(0);
    return Status();
  });
  ASSERT_TRUE(number.ok());
  halfway.get_future().wait();
  json shown = *jobs.show(*number);
  EXPECT_EQ(shown["state"], "running");
  EXPECT_EQ(shown["total_bytes"], 400U);
  EXPECT_EQ(shown["done_bytes"], 100U);
  go_on.set_value();
  shown = end_of(jobs, *number);
  EXPECT_EQ(shown["state"], "done");
  EXPECT_EQ(shown["done_bytes"], 400U);
  EXPECT_FALSE(shown.contains("left_ms"));
  EXPECT_FALSE(shown.contains("error"));
}

TEST(Jobs, WhoWaitsIsToldTheOutcomeOnce) {
  Jobs jobs;
  std::promise<void> go_on;
  const auto number = jobs.begin("a", "", [&](JobRun&) {
    go_on.get_future().wait();
    return Status(Errc::dirty, "dirty it is");
  });
  std::promise<Status> told;
  ASSERT_TRUE(jobs.when_ended(*number, [&](const Status& outcome) { told.set_value(outcome); }).ok());
  go_on.set_value();
  EXPECT_EQ(told.get_future().get().code(), Errc::dirty);
  Status at_once;
  ASSERT_TRUE(jobs.when_ended(*number, [&](const Status& outcome) { at_once = outcome; }).ok());
  EXPECT_EQ(at_once.message(), "dirty it is") << "it had ended";
  EXPECT_EQ(jobs.when_ended(7, [](const Status&) { FAIL(); }).code(), Errc::not_found);
}

TEST(Jobs, FailuresAndThrownExceptionsAreTheirEnd) {
  Jobs jobs;
  const auto failed = jobs.begin("a", "", [](JobRun&) { return Status(Errc::dirty, "dirty it is"); });
  const auto thrown = jobs.begin("b", "", [](JobRun&) -> Status { throw std::bad_alloc(); });
  EXPECT_EQ(end_of(jobs, *failed)["error"], (json{{"code", "dirty"}, {"message", "dirty it is"}}));
  EXPECT_EQ(end_of(jobs, *failed)["state"], "failed");
  EXPECT_EQ(end_of(jobs, *thrown)["error"]["code"], "failed");
}

TEST(Jobs, ACancelledOneThatWasDoneAllTheSameIsDone) {
  Jobs jobs;
  std::promise<void> go_on;
  const auto number = jobs.begin("a", "", [&](JobRun&) {
    go_on.get_future().wait();
    return Status();
  });
  ASSERT_TRUE(jobs.cancel(*number).ok());
  go_on.set_value();
  EXPECT_EQ(end_of(jobs, *number)["state"], "done");
}

TEST(Jobs, NoMoreThanTheLimitRunAndOldOnesAreForgotten) {
  Jobs jobs;
  std::vector<std::uint64_t> running;
  for (std::size_t i = 0; i < Jobs::kMaxRunning; ++i) running.push_back(*jobs.begin("a", "", until_told));
  EXPECT_EQ(jobs.begin("a", "", until_told).status().code(), Errc::busy);
  for (const std::uint64_t number : running) ASSERT_TRUE(jobs.cancel(number).ok());
  for (const std::uint64_t number : running) EXPECT_EQ(end_of(jobs, number)["state"], "cancelled");
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < 2 * Jobs::kEndedKept; ++i) {
    last = *jobs.begin("b", "", [](JobRun&) { return Status(); });
    EXPECT_EQ(end_of(jobs, last)["state"], "done");
  }
  EXPECT_EQ(jobs.list().size(), Jobs::kEndedKept);
  EXPECT_EQ(jobs.show(running.front()).status().code(), Errc::not_found);
  EXPECT_EQ(jobs.cancel(last).code(), Errc::invalid);
}

TEST(Jobs, EndWithTheObject) {
  std::atomic<bool> ended = false;
  {
    Jobs jobs;
    ASSERT_TRUE(jobs.begin("a", "",
                           [&](JobRun& run) {
                             const Status status = until_told(run);
                             EXPECT_EQ(run.wish(), JobRun::Wish::stop);
                             ended = true;
                             return status;
                           })
                    .ok());
  }
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace pcache
