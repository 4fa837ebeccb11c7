// The filesystem: one directory, one file for each logical device, each file like a block device.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "mount/control_files.h"
#include "mount/data_path.h"
#include "mount/device_attributes.h"
#include "mount/transport.h"
#include "pcache/device_manager.h"
#include "pcache/result.h"

struct fuse_session;

namespace pcache {

struct FuseOptions {
  bool allow_other = false;         // users besides the mount's owner may look
  std::string source = "pcachefs";  // what the mount table calls what is mounted
  int seats = Seats::for_this_machine();
};

// A mounted filesystem over the logical devices of a manager. No state hangs on file handles, inode numbers are the
// logical devices' own, and every request may be executed twice.
class FuseMount : public Transport::Server {
 public:
  // Mounts at `mount_point`; requests are served from start() on. `manager` and `tree`, which may be null, outlive all
  // requests.
  // Errors: permission, failed.
  static Result<std::unique_ptr<FuseMount>> mount(const std::string& mount_point, const FuseOptions& options,
                                                  DeviceManager& manager, ControlTree* tree = nullptr);
  // The same without a kernel: serves the requests that it is given, and has no mount to start or to stop.
  static Result<std::unique_ptr<FuseMount>> without_kernel(DeviceManager& manager, ControlTree* tree = nullptr);
  ~FuseMount() override;

  // --- Transport::Server. Fields of a request are checked, as if anybody could have written it.
  bool arrived(Request& request) override;
  void announce(std::span<const std::unique_ptr<Request>> batch) override { DataPath::announce(batch); }
  void serve(std::unique_ptr<Request> request) override;

  // Tells the kernel that the file's attributes are to be asked for again. Any thread but a serving one.
  void attributes_changed(std::uint64_t inode);

  // Errors: failed; the mount is of no use then.
  Status start() { return transport_->start(); }
  // Readable once the kernel has unmounted it.
  int ended_fd() const { return transport_->ended_fd(); }
  // Ends serving. Requests that wait for something go on until their devices answer; unmount() waits for that.
  void stop() { transport_->stop(); }
  // Waits for every request to be answered, and unmounts if that has not been done. After stop().
  void unmount();

 private:
  static Result<std::unique_ptr<FuseMount>> mount_checked(const std::string& mount_point, const FuseOptions& options,
                                                          DeviceManager& manager, ControlTree* tree);
  FuseMount(DeviceManager& manager, ControlTree* tree);
  Status begin_session(const FuseOptions& options, DeviceManager& manager);
  Status answer_through(int fd);

  DataPath data_path_;
  std::optional<ControlFiles> control_files_;
  std::optional<DeviceAttributes> attributes_;
  fuse_session* session_ = nullptr;
  std::unique_ptr<Transport> transport_;
  bool mounted_ = false;
};

}  // namespace pcache
