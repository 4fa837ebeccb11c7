#include "cli/top.h"

#include <ncurses.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>

#include "base/size_text.h"
#include "cli/ask.h"
#include "cli/json_fields.h"
#include "cli/output.h"
#include "cli/top_model.h"
#include "pcache/status.h"

namespace pcache {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kLeastMs = 100;
constexpr std::uint32_t kMostMs = 60'000;

enum Colour : short { kGood = 1, kBad = 2, kTitle = 3 };

std::string short_number(double value) {
  char text[32];
  if (value < 10'000) {
    std::snprintf(text, sizeof text, "%.0f", value);
  } else if (value < 10'000'000) {
    std::snprintf(text, sizeof text, "%.0fk", value / 1000);
  } else {
    std::snprintf(text, sizeof text, "%.0fM", value / 1'000'000);
  }
  return text;
}

std::string rate(double bytes) { return bytes < 1 ? "-" : format_size(static_cast<std::uint64_t>(bytes)) + "/s"; }

std::string latency(std::uint64_t p50_ns, std::uint64_t p99_ns) {
  const auto one = [](std::uint64_t ns) {
    char text[32];
    if (ns < 1000) {
      std::snprintf(text, sizeof text, "%luns", static_cast<unsigned long>(ns));
    } else if (ns < 1'000'000) {
      std::snprintf(text, sizeof text, "%.0fus", static_cast<double>(ns) / 1e3);
    } else if (ns < 1'000'000'000) {
      std::snprintf(text, sizeof text, "%.0fms", static_cast<double>(ns) / 1e6);
    } else {
      std::snprintf(text, sizeof text, "%.1fs", static_cast<double>(ns) / 1e9);
    }
    return std::string(text);
  };
  return p99_ns == 0 ? "-" : one(p50_ns) + "/" + one(p99_ns);
}

std::string percent(double part) { return part < 0 ? "-" : std::to_string(static_cast<int>(part * 100 + 0.5)) + "%"; }

// The terminal, as long as it lives.
class Screen {
 public:
  Screen() {
    std::setlocale(LC_ALL, "");
    initscr();
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    colours_ = has_colors() && may_use_color();
    if (!colours_) return;
    start_color();
    use_default_colors();
    init_pair(kGood, COLOR_GREEN, -1);
    init_pair(kBad, COLOR_RED, -1);
    init_pair(kTitle, COLOR_CYAN, -1);
  }
  ~Screen() { endwin(); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // As much of the text as fits into the line.
  void put(int line, int column, const std::string& text, Colour colour = Colour{}, bool bold = false) const {
    if (line >= LINES || column >= COLS) return;
    const attr_t attributes = (bold ? A_BOLD : A_NORMAL) | (colours_ && colour != 0 ? COLOR_PAIR(colour) : 0);
    attron(attributes);
    mvaddnstr(line, column, text.c_str(), std::min<int>(COLS - column, static_cast<int>(text.size())));
    attroff(attributes);
  }

 private:
  bool colours_ = false;
};

class Top {
 public:
  Top(const std::string& mount, std::uint32_t interval_ms) : mount_(mount), interval_ms_(interval_ms) {}

  void run() {
    while (!quit_) {
      const auto now = Clock::now();
      if (!paused_ && now >= next_look_) {
        look();
        next_look_ = now + std::chrono::milliseconds(interval_ms_);
      }
      draw();
      const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(next_look_ - Clock::now()).count();
      timeout(paused_ ? 1000 : static_cast<int>(std::clamp<long>(wait, 0, 1000)));
      key(getch());
    }
  }

 private:
  void look() {
    auto status = ask(mount_, "status", json::object());
    std::map<std::string, json> stats;
    if (status) {
      for (const json& device : list(*status, "logic_devs")) {
        // One that went away meanwhile is not there at the next look.
        if (auto of_one = ask(mount_, "stats", {{"name", text(device, "name")}})) {
          stats[text(device, "name")] = std::move(*of_one);
        }
      }
      gone_.clear();
      served_ = text(*status, "mount");
      model_.look(*status, stats, Clock::now());
    } else {
      gone_ = status.status().message();
      model_.forget();
    }
  }

  void key(int pressed) {
    if (help_ && pressed != ERR) {
      help_ = false;
      return;
    }
    switch (pressed) {
      case 'q':
      case 'Q':
        quit_ = true;
        break;
      case 's':
        sort_ = static_cast<TopSort>((static_cast<int>(sort_) + 1) % kTopSorts);
        break;
      case 'S':
        sort_ = static_cast<TopSort>((static_cast<int>(sort_) + kTopSorts - 1) % kTopSorts);
        break;
      case '+':
        interval_ms_ = std::min(interval_ms_ * 2, kMostMs);
        break;
      case '-':
        interval_ms_ = std::max(interval_ms_ / 2, kLeastMs);
        next_look_ = Clock::now();
        break;
      case 'p':
      case ' ':
        paused_ = !paused_;
        next_look_ = Clock::now();
        break;
      case 'h':
      case '?':
        help_ = true;
        break;
      default:  // a resize only draws anew
        break;
    }
  }

  void draw() const {
    erase();
    if (help_) {
      draw_help();
    } else {
      draw_devices();
    }
    refresh();
  }

  void draw_help() const {
    const char* const lines[] = {
        "pcachefs top",
        "",
        "  q        quit",
        "  s, S     sort by the next, the last column",
        "  +, -     look half as often, twice as often",
        "  p        pause, and go on",
        "  h, ?     this help",
        "",
        "READ, WRITE   a second: requests and data",
        "R LAT, W LAT  of half and of 99 % of the requests timed, at most",
        "HITS          of the blocks read, how many came from the cache",
        "DIRTY         data that only the cache has, and its part of the cache device",
        "BACK          data written to the backing device a second",
        "",
        "any key goes back",
    };
    int line = 0;
    for (const char* const text : lines) {
      screen_.put(line, 0, text, line == 0 ? kTitle : Colour{}, line == 0);
      ++line;
    }
  }

  void draw_devices() const {
    char head[160];
    std::snprintf(head, sizeof head, "every %.1f s, by %s%s   h: help", interval_ms_ / 1000.0, to_string(sort_),
                  paused_ ? ", PAUSED" : "");
    const std::string title = "pcachefs top  " + printable(served_) + "  ";
    screen_.put(0, 0, title, kTitle, true);
    screen_.put(0, static_cast<int>(title.size()), head);
    if (!gone_.empty()) return screen_.put(2, 0, "NO DAEMON: " + printable(gone_) + "; looking for it", kBad, true);
    const bool ok = model_.health() == "ok";
    screen_.put(1, 0, "health " + printable(model_.health()), ok ? kGood : kBad, !ok);
    screen_.put(2, 0,
                row_text({"NAME", "STATE", "MODE", "READ/s", "READ", "WRITE/s", "WRITE", "R LAT", "W LAT", "HITS",
                          "DIRTY", "", "BACK"}),
                Colour{}, true);
    int line = 3;
    for (const TopRow& row : model_.rows(sort_)) {
      const std::string columns =
          row_text({printable(row.name), row.state, row.mode, short_number(row.read_ops), rate(row.read_bytes),
                    short_number(row.write_ops), rate(row.write_bytes), latency(row.read_p50_ns, row.read_p99_ns),
                    latency(row.write_p50_ns, row.write_p99_ns), percent(row.hit_part), format_size(row.dirty_bytes),
                    percent(row.dirty_part), rate(row.written_back_bytes)});
      screen_.put(line++, 0, columns, row.state == "running" ? Colour{} : kBad);
    }
    if (line == 3) screen_.put(line, 0, "no logical device; add one with pcachefs add");
  }

  static std::string row_text(const std::vector<std::string>& columns) {
    constexpr int kWidths[] = {-14, -10, -13, 7, 11, 8, 11, 12, 12, 6, 10, 5, 11};
    std::string line;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto width = static_cast<std::size_t>(std::abs(kWidths[i]));
      const std::string cell = columns[i].substr(0, width);
      const std::string blanks(width - cell.size(), ' ');
      line += (i == 0 ? "" : " ") + (kWidths[i] < 0 ? cell + blanks : blanks + cell);
    }
    return line;
  }

  const std::string mount_;
  std::uint32_t interval_ms_;
  Screen screen_;
  TopModel model_;
  std::string served_;
  std::string gone_;
  TopSort sort_ = TopSort::name;
  bool paused_ = false;
  bool help_ = false;
  bool quit_ = false;
  Clock::time_point next_look_{};
};

}  // namespace

int run_top(const std::string& mount, double interval_seconds) {
  if (!(interval_seconds * 1000 >= kLeastMs && interval_seconds * 1000 <= kMostMs)) {
    return report(Status(Errc::invalid, "the interval of top is 0.1 to 60 seconds"));
  }
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) {
    return report(Status(Errc::invalid, "top needs a terminal; pcachefs status and stats print once"));
  }
  const char* const terminal = std::getenv("TERM");
  if (terminal == nullptr || *terminal == '\0') {
    return report(Status(Errc::invalid, "top needs to know the terminal: TERM is not set"));
  }
  Top(mount, static_cast<std::uint32_t>(interval_seconds * 1000)).run();
  return 0;
}

}  // namespace pcache
