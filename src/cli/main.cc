// The pcachefs executable: the command line, with the engine and the mount behind it.

#include "cli/cli.h"
#include "mount/daemon.h"
#include "pcache/device_manager.h"
#include "pcache/inspect.h"

int main(int argc, char** argv) {
  const pcache::CliActions actions{
      pcache::format_cache_dev,
      [](const pcache::MountArgs& args, std::vector<std::string>& problems) {
        return pcache::run_mount({args.mount_point, args.caches, args.config, args.options, args.foreground,
                                  args.allow_other, args.http, args.source, args.log_level},
                                 problems);
      },
      pcache::check_cache_dev,
      pcache::dump_cache_dev,
      pcache::salvage_logic_dev,
      pcache::cache_dev_label,
  };
  return pcache::run_cli(argc, argv, actions);
}
