// The numbers of a mount as metrics, for Prometheus and what understands its formats.
#pragma once

#include <cstdint>
#include <string>

#include "control/health.h"
#include "pcache/device_manager.h"

namespace pcache {

enum class MetricsFormat : std::uint8_t {
  openmetrics,  // 1.0
  prometheus,   // text format 0.0.4, which the textfile collector and promtool read
};

// Every number of stats.cc, as its table names it, with the labels cache_dev and logic_dev, and the latencies as
// histograms. Waits for nothing.
std::string metrics_text(DeviceManager& manager, MetricsFormat format, const HealthWatch* watch = nullptr);

// The content type of that text.
const char* content_type(MetricsFormat format);
// What a scraper gets that accepts `accept` (the header field).
MetricsFormat format_for(const std::string& accept);

}  // namespace pcache
