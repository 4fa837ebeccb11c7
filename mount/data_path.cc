#include "mount/data_path.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "mount/request_pool.h"

namespace pcache {
namespace {

void end(std::unique_ptr<Request> request) {
  request->device.reset();
  RequestPool::give_back(std::move(request));
}

// With an errno, 0 for success, or with data.
template <typename Answer>
void answer(std::unique_ptr<Request> request, const Answer& with) {
  request->reply(with);
  end(std::move(request));
}

// From here on a device has the request, until it calls `done`.
Completion hand_over(std::unique_ptr<Request> request, void (*done)(void*, int)) { return {done, request.release()}; }

std::unique_ptr<Request> take_back(void* context) { return std::unique_ptr<Request>(static_cast<Request*>(context)); }

void read_done(void* context, int error) {
  auto request = take_back(context);
  if (error != 0) return answer(std::move(request), error);
  const auto data = request->data().first(request->wanted);
  answer(std::move(request), data);
}

void read(std::unique_ptr<Request> request) {
  const auto& in = request->body<fuse_read_in>();
  LogicDev& device = *request->device;
  const std::uint64_t offset = in.offset;
  if (in.size > Request::kMaxData) return answer(std::move(request), EINVAL);
  request->wanted = offset < device.size_bytes() ? std::min<std::uint64_t>(in.size, device.size_bytes() - offset) : 0;
  const auto buffer = request->data().first(request->wanted);
  if (buffer.empty()) return answer(std::move(request), buffer);
  device.read(offset, buffer, hand_over(std::move(request), read_done));
}

void answer_error(void* context, int error) { answer(take_back(context), error); }

void written(void* context, int error) {
  auto request = take_back(context);
  if (error != 0) return answer(std::move(request), error);
  fuse_write_out out{};
  out.size = static_cast<std::uint32_t>(request->wanted);
  answer(std::move(request), std::as_bytes(std::span(&out, 1)));
}

void write_done(void* context, int error) {
  auto* request = static_cast<Request*>(context);
  if (error == 0 && request->flush_after) return request->device->flush({written, request});
  written(context, error);
}

void write(std::unique_ptr<Request> request) {
  const auto& in = request->body<fuse_write_in>();
  LogicDev& device = *request->device;
  const std::uint64_t offset = in.offset;
  if (in.size != request->written().size()) return answer(std::move(request), EINVAL);
  if (offset >= device.size_bytes()) return answer(std::move(request), ENOSPC);
  request->wanted = std::min<std::uint64_t>(in.size, device.size_bytes() - offset);
  request->flush_after = (in.flags & (O_SYNC | O_DSYNC)) != 0;
  const auto data = request->written().first(request->wanted);
  device.write(offset, data, hand_over(std::move(request), write_done));
}

void flush(std::unique_ptr<Request> request) {
  LogicDev& device = *request->device;
  device.flush(hand_over(std::move(request), answer_error));
}

void allocate(std::unique_ptr<Request> request) {
  const auto& in = request->body<fuse_fallocate_in>();
  LogicDev& device = *request->device;
  const std::uint64_t size = device.size_bytes();
  const std::uint64_t offset = in.offset;
  const std::uint32_t kind = in.mode & ~static_cast<std::uint32_t>(FALLOC_FL_KEEP_SIZE);
  if (kind != FALLOC_FL_PUNCH_HOLE && kind != FALLOC_FL_ZERO_RANGE) return answer(std::move(request), EOPNOTSUPP);
  if (in.length == 0 || offset > INT64_MAX || in.length > INT64_MAX) return answer(std::move(request), EINVAL);
  // Without KEEP_SIZE the kernel would take the file to be as long as the range reaches.
  const bool crosses_end = in.length > size - std::min(offset, size);
  if (crosses_end && (in.mode & FALLOC_FL_KEEP_SIZE) == 0) return answer(std::move(request), EINVAL);
  if (offset >= size) return answer(std::move(request), kind == FALLOC_FL_PUNCH_HOLE ? 0 : ENOSPC);
  const std::uint64_t length = std::min(in.length, size - offset);
  device.discard(offset, length, hand_over(std::move(request), answer_error));
}

}  // namespace

struct DataOperation {
  std::uint32_t opcode;
  std::size_t body_bytes;
  void (*start)(std::unique_ptr<Request>);
};

namespace {

constexpr DataOperation kOperations[] = {
    {FUSE_READ, sizeof(fuse_read_in), read},
    {FUSE_WRITE, sizeof(fuse_write_in), write},
    {FUSE_FSYNC, sizeof(fuse_fsync_in), flush},
    {FUSE_FALLOCATE, sizeof(fuse_fallocate_in), allocate},
};

const DataOperation* find_operation(std::uint32_t opcode) {
  for (const DataOperation& operation : kOperations) {
    if (operation.opcode == opcode) return &operation;
  }
  return nullptr;
}

}  // namespace

bool DataPath::admit(Request& request) const {
  constexpr std::uint32_t kLongBytes = 64 << 10;  // their copy takes longer than waking a thread
  const DataOperation* const operation = find_operation(request.header().opcode);
  request.operation = operation;
  if (operation == nullptr) return request.header().opcode == FUSE_LSEEK;
  request.device = manager_.find_inode(request.header().nodeid);
  if (!request.device || !request.has_body(operation->body_bytes)) return false;
  switch (operation->opcode) {
    case FUSE_READ:
      return request.body<fuse_read_in>().size >= kLongBytes || request.device->waits_for_medium();
    case FUSE_WRITE:
      return request.written().size() >= kLongBytes || request.device->waits_for_medium();
    default:
      return operation->opcode == FUSE_FALLOCATE;
  }
}

void DataPath::announce(std::span<const std::unique_ptr<Request>> batch) {
  std::array<std::uint64_t, kMaxBatch> offsets;
  for (std::size_t i = 0; i < batch.size();) {
    const Request& first = *batch[i];
    const std::uint32_t opcode = first.header().opcode;
    std::size_t count = 0;
    for (; i < batch.size() && batch[i]->device == first.device && batch[i]->header().opcode == opcode; ++i) {
      // The offset is the same field of both.
      static_assert(offsetof(fuse_read_in, offset) == offsetof(fuse_write_in, offset));
      if (batch[i]->has_body(sizeof(fuse_read_in))) offsets[count++] = batch[i]->body<fuse_read_in>().offset;
    }
    if (first.device && (opcode == FUSE_READ || opcode == FUSE_WRITE)) {
      first.device->expect(opcode == FUSE_READ ? LogicDev::Access::read : LogicDev::Access::write,
                           {offsets.data(), count});
    }
  }
}

bool DataPath::handle(std::unique_ptr<Request>& request) {
  const DataOperation* const operation = request->operation;
  if (operation == nullptr) return false;
  if (!request->has_body(operation->body_bytes)) {
    answer(std::move(request), EINVAL);
  } else if (!request->device) {
    answer(std::move(request), EIO);
  } else {
    operation->start(std::move(request));
  }
  return true;
}

}  // namespace pcache
