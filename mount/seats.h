// Which of the serving threads look for the kernel's next requests.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace pcache {

// A thread that looks keeps a processor busy, which its clients need too: there are fewer seats than threads, and who
// is about to serve something that takes long leaves its seat to another, so that others' requests need not wait for
// it. Thread-safe; outlives the seats that are taken.
class Seats {
 public:
  explicit Seats(int seats) : free_(seats) {}

  // One seat for every two processors, 1 to 4.
  static int for_this_machine();

  // Waits until the calling thread has a seat; it keeps the one it has. Returns false once they are closed, without
  // one.
  bool sit_down();
  // Gives the calling thread's seat, if it has one, to a thread that waits.
  void stand_up();
  // Nobody gets a seat from here on.
  void close();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int free_;  // under mutex_
  std::atomic<bool> closed_{false};
};

}  // namespace pcache
