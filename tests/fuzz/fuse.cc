// The kernel's side of the mount: requests with any fields, some of which no kernel would send, into the data path and
// libfuse. Each is answered once or, where the protocol says so, not at all; what is written and read is right.

#include <linux/falloc.h>
#include <linux/fuse.h>
#include <sys/socket.h>

#include <vector>

#include "base/check.h"
#include "base/unique_fd.h"
#include "mount/fuse_ops.h"
#include "mount/request_pool.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/memory_dev.h"

namespace pcache {
namespace {

constexpr std::uint64_t kSize = MemoryDev::kSize;

// A mount whose kernel is the other end of a socket.
class Kernel {
 public:
  Kernel() {
    int ends[2];
    PCACHE_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "there are sockets");
    kernel_.reset(ends[0]);
    daemon_.reset(ends[1]);
    auto mount = FuseMount::without_kernel(manager_);
    PCACHE_CHECK(mount.ok(), "a mount can do without a kernel");
    mount_ = std::move(*mount);
    struct {
      fuse_in_header header{};
      fuse_init_in body{};
    } init;
    init.header.opcode = FUSE_INIT;
    init.body.major = FUSE_KERNEL_VERSION;
    init.body.minor = FUSE_KERNEL_MINOR_VERSION;
    send(bytes_of(init), false);
  }

  // Each input finds the same content. What it does to libfuse's session stays: that begins once.
  void refill() {
    std::fill(device().content.begin(), device().content.end(), std::byte{0x5a});
    device().expected.clear();
    model_ = device().content;
  }

  // A request, with its length and number filled in.
  void send(std::vector<std::byte> bytes, bool dirty_memory) {
    PCACHE_CHECK(bytes.size() >= sizeof(fuse_in_header), "a request has a header");
    auto request = pool_.take();
    bytes.resize(std::min(bytes.size(), request->space().size()));
    fuse_in_header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.len = static_cast<std::uint32_t>(bytes.size());
    header.unique = ++unique_;
    std::memcpy(bytes.data(), &header, sizeof header);
    if (dirty_memory) std::memset(request->space().data(), 0xff, request->space().size());
    std::memcpy(request->space().data(), bytes.data(), bytes.size());
    PCACHE_CHECK(request->arrived(daemon_.get(), bytes.size()), "a request that says its length is one");
    (void)mount_->arrived(*request);
    mount_->announce({&request, 1});
    mount_->serve(std::move(request));
    pool_.wait_idle();
    receive(header, std::span(bytes).subspan(sizeof header));
  }

  // Something that came from the kernel and says that it is `length` bytes long.
  void send_no_request(const std::vector<std::byte>& bytes, std::uint32_t length) {
    auto request = pool_.take();
    std::copy(bytes.begin(), bytes.end(), request->space().begin());
    std::memcpy(request->space().data(), &length, sizeof length);
    PCACHE_CHECK(
        request->arrived(daemon_.get(), bytes.size()) == (length == bytes.size() && length >= sizeof(fuse_in_header)),
        "a request's length is the one that it says");
    RequestPool::give_back(std::move(request));
  }

  void check_device() {
    PCACHE_CHECK(model_ == device().content, "what was answered is what was done");
    PCACHE_CHECK(device().beyond_end == 0, "a device is used inside its bounds");
  }

  template <typename T>
  static std::vector<std::byte> bytes_of(const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return {bytes.begin(), bytes.end()};
  }

 private:
  MemoryDev& device() { return *manager_.device; }

  void receive(const fuse_in_header& in, std::span<const std::byte> body) {
    message_.resize(256 << 10);
    const ssize_t got = recv(kernel_.get(), message_.data(), message_.size(), MSG_DONTWAIT);
    const bool silent = in.opcode == FUSE_FORGET || in.opcode == FUSE_BATCH_FORGET || in.opcode == FUSE_NOTIFY_REPLY;
    if (silent) {
      PCACHE_CHECK(got < 0, "no answer is expected, none is given");
      return;
    }
    PCACHE_CHECK(got >= static_cast<ssize_t>(sizeof(fuse_out_header)), "every request is answered");
    fuse_out_header out;
    std::memcpy(&out, message_.data(), sizeof out);
    PCACHE_CHECK(out.len == got && out.unique == in.unique, "an answer says what it is an answer to");
    PCACHE_CHECK(out.error <= 0 && out.error > -512, "an answer's error is one that users may see");
    PCACHE_CHECK(out.error == 0 || got == sizeof out, "an error brings no data");
    PCACHE_CHECK(recv(kernel_.get(), &out, sizeof out, MSG_DONTWAIT) < 0, "a request is answered once");
    if (out.error == 0) follow(in, body, std::span(message_).subspan(sizeof out, out.len - sizeof out));
  }

  // Does to the model what the request did to the device, and compares.
  void follow(const fuse_in_header& in, std::span<const std::byte> body, std::span<const std::byte> answer) {
    const auto fields = [&body](auto& to) {
      PCACHE_CHECK(body.size() >= sizeof to, "a request without its fields does not succeed");
      std::memcpy(&to, body.data(), sizeof to);
    };
    if (in.opcode == FUSE_READ) {
      fuse_read_in read;
      fields(read);
      const std::uint64_t begin = std::min(read.offset, kSize);
      const std::uint64_t length = std::min<std::uint64_t>(read.size, kSize - begin);
      PCACHE_CHECK(answer.size() == length && std::memcmp(answer.data(), model_.data() + begin, length) == 0,
                   "a read gives what is there");
    } else if (in.opcode == FUSE_WRITE) {
      fuse_write_in write;
      fields(write);
      fuse_write_out written;
      PCACHE_CHECK(answer.size() == sizeof written, "a write tells how much");
      std::memcpy(&written, answer.data(), sizeof written);
      PCACHE_CHECK(write.offset < kSize && written.size == std::min<std::uint64_t>(write.size, kSize - write.offset) &&
                       body.size() - sizeof write == write.size,
                   "a write writes what it brings, up to the end");
      std::copy_n(body.begin() + sizeof write, written.size,
                  model_.begin() + static_cast<std::ptrdiff_t>(write.offset));
    } else if (in.opcode == FUSE_FALLOCATE) {
      fuse_fallocate_in allocate;
      fields(allocate);
      const std::uint64_t begin = std::min(allocate.offset, kSize);
      std::memset(model_.data() + begin, 0, std::min(allocate.length, kSize - begin));
    } else if (in.opcode == FUSE_READDIR) {
      fuse_read_in read;
      fields(read);
      PCACHE_CHECK(answer.size() <= read.size, "a directory's names fit into what was asked for");
    }
  }

  OneDevice manager_;
  RequestPool pool_{{.prefaulted = 1}};
  UniqueFd kernel_;
  UniqueFd daemon_;
  std::unique_ptr<FuseMount> mount_;
  std::uint64_t unique_ = 0;
  std::vector<std::byte> model_;
  std::vector<std::byte> message_;
};

std::vector<std::byte> make_request(FuzzInput& input) {
  fuse_in_header header{};
  const std::uint8_t opcode = input.byte();
  header.opcode = opcode < 224 ? opcode % 56 : input.take<std::uint32_t>();
  const std::uint8_t node = input.byte();
  header.nodeid = node < 128 ? MemoryDev::kInode : node < 192 ? std::uint64_t{FUSE_ROOT_ID} : input.number();
  header.uid = input.byte() % 4 == 1 ? 1000 : 0;
  auto bytes = Kernel::bytes_of(header);
  const auto append = [&bytes](const auto& what) {
    const auto more = std::as_bytes(std::span(what));
    bytes.insert(bytes.end(), more.begin(), more.end());
  };
  // Fields as 64-bit words, halves of 32 bits, or as they come; then a name or data.
  const std::uint8_t shape = input.byte();
  for (std::uint32_t words = shape % 16; words > 0; --words) {
    const bool halves = (shape & 0x10) != 0 || header.opcode == FUSE_FALLOCATE;
    const std::uint64_t word = halves ? input.take<std::uint64_t>() : input.number();
    append(std::span(&word, 1));
  }
  switch (shape >> 5) {
    case 0:
      break;
    case 1:
      append(std::string("memory") + '\0');
      break;
    case 2: {
      append(input.text(input.byte()) + '\0');
      break;
    }
    case 3:
      append(input.text(input.byte()));
      break;
    case 4: {
      append(input.text(input.byte()) + '\0' + input.text(input.byte()) + '\0');
      break;
    }
    case 5: {  // a write whose fields fit its data
      const std::uint32_t length = input.below(20000);
      fuse_write_in write{};
      write.offset = input.number();
      write.size = length;
      write.flags = input.take<std::uint32_t>();
      bytes.resize(sizeof header);
      append(std::span(&write, 1));
      append(std::string(length, static_cast<char>(input.byte())));
      break;
    }
    case 6: {
      const struct {
        std::uint64_t fh, offset;
        std::uint32_t size, mode;
        std::uint64_t more[2];
      } read{0, input.number(), static_cast<std::uint32_t>(input.number()), 0, {0, 0}};
      fuse_fallocate_in allocate{};
      allocate.offset = read.offset;
      allocate.length = read.size;
      allocate.mode = (input.flag() ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) |
                      (input.byte() % 4 != 0 ? FALLOC_FL_KEEP_SIZE : 0);
      bytes.resize(sizeof header);
      if (header.opcode == FUSE_FALLOCATE) {
        append(std::span(&allocate, 1));
      } else {
        append(std::span(&read, 1));
      }
      break;
    }
    default:
      append(std::string(input.take<std::uint32_t>() % (Request::kMaxData + 8192), '\xff'));
  }
  return bytes;
}

}  // namespace
}  // namespace pcache

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pcache;
  static Kernel kernel;
  kernel.refill();
  FuzzInput input(data, size);
  for (int requests = 0; requests < 16 && !input.empty(); ++requests) {
    const std::uint8_t how = input.byte();
    const auto request = make_request(input);
    if (how < 8 && request.size() < 4096) {
      kernel.send_no_request(
          {request.begin(), request.begin() + input.below(static_cast<std::uint32_t>(request.size()))},
          static_cast<std::uint32_t>(input.number()));
    } else {
      kernel.send(request, how >= 248);
    }
  }
  kernel.check_device();
  return 0;
}
