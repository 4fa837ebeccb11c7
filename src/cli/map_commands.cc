#include "cli/map_commands.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/unique_fd.h"
#include "cli/ask.h"
#include "cli/json_fields.h"
#include "cli/loop_device.h"
#include "cli/output.h"
#include "control/version.h"

namespace pcache {

using nlohmann::json;

namespace {

constexpr std::uint64_t kSectorSize = 512;

struct Exposed {
  std::string file;
  std::string backing;
};

Result<Exposed> find_exposed(const std::string& mount, const std::string& name) {
  const auto status = ask(mount, "status", {{"name", name}});
  if (!status) return status.status();
  const json devices = list(*status, "logic_devs");
  const json device = devices.empty() ? json::object() : devices.front();
  struct stat st {};
  Exposed exposed{text(*status, "mount") + "/" + name, text(device, "backing")};
  if (stat(exposed.file.c_str(), &st) != 0) {
    return Status(Errc::failed, "logical device " + name + " is not exposed: it is " + text(device, "state") + ", " +
                                    text(device, "detail"));
  }
  return exposed;
}

// What a filesystem makes of the sectors of the loop device shall also fit the backing device when it is used alone.
std::uint64_t sector_size_of(const std::string& backing) {
  struct stat st {};
  int size = 0;
  if (stat(backing.c_str(), &st) != 0 || !S_ISBLK(st.st_mode)) return kSectorSize;
  const UniqueFd fd(open(backing.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return fd && ioctl(fd.get(), BLKSSZGET, &size) == 0 && size > 0 ? static_cast<std::uint64_t>(size) : kSectorSize;
}

struct Mapped {
  std::string device;
  std::string file;
};

Result<Mapped> find_by_name(const std::string& mount, const std::string& name) {
  const auto exposed = find_exposed(mount, name);
  if (!exposed) return exposed.status();
  const auto found = find_loop_device(exposed->file);
  if (!found) return found.status();
  if (!*found) return Status(Errc::not_found, "logical device " + name + " is not mapped");
  return Mapped{**found, exposed->file};
}

Result<Mapped> find_by_device(const std::string& mount, const std::string& device) {
  const auto status = ask(mount, "status", json::object());
  if (!status) return status.status();
  const std::string file = loop_device_file(device);
  if (!file.starts_with(text(*status, "mount") + "/")) {
    return Status(Errc::invalid, device + " is not the loop device of a logical device at " + text(*status, "mount"));
  }
  return Mapped{device, file};
}

int print_device(const std::string& device, const std::string& file, bool as_json) {
  if (as_json) return print_json({{"schema", schema_json()}, {"device", device}, {"file", file}});
  return print(device + "\n");
}

}  // namespace

int run_map(const std::string& mount, const MapArgs& args, bool as_json) {
  const auto exposed = find_exposed(mount, args.name);
  if (!exposed) return report(exposed.status());
  LoopOptions options;
  options.read_only = args.read_only;
  options.scan_partitions = args.scan_partitions;
  const std::uint64_t size = args.sector_size != 0 ? args.sector_size : sector_size_of(exposed->backing);
  if (size < kSectorSize || size > 4096 || (size & (size - 1)) != 0) {
    return report(Status(Errc::invalid, "a sector has 512, 1024, 2048 or 4096 bytes, not " + std::to_string(size)));
  }
  options.sector_size = static_cast<std::uint32_t>(size);
  const auto device = attach_loop_device(exposed->file, options);
  return device ? print_device(*device, exposed->file, as_json) : report(device.status());
}

int run_unmap(const std::string& mount, const std::string& name, bool as_json) {
  const auto mapped = name.starts_with("/dev/") ? find_by_device(mount, name) : find_by_name(mount, name);
  if (!mapped) return report(mapped.status());
  if (Status detached = detach_loop_device(mapped->device); !detached.ok()) return report(detached);
  return as_json ? print_device(mapped->device, mapped->file, true) : 0;
}

}  // namespace pcache
