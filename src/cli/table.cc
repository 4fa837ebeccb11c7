#include "cli/table.h"

#include <algorithm>

#include "base/size_text.h"
#include "cli/output.h"

namespace pcache {
namespace {

const std::string kRed = "\x1b[31m";
const std::string kGreen = "\x1b[32m";
const std::string kYellow = "\x1b[33m";
const std::string kPlain = "\x1b[0m";

// How many columns of a terminal it takes: colours none, of UTF-8 the first byte of each character.
std::size_t width_of(const std::string& text) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      i = std::min(text.find('m', i), text.size() - 1);
    } else if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) {
      ++width;
    }
  }
  return width;
}

}  // namespace

std::string size_text(std::uint64_t bytes, const OutputStyle& style) {
  if (style.exact) return std::to_string(bytes);
  std::string text = format_size(bytes);
  if (!style.bare) return text;
  text.erase(text.find(' '), 1);
  return text.ends_with("iB") ? text.substr(0, text.size() - 2) : text;
}

std::string alarm_text(const std::string& word, const OutputStyle& style) {
  return style.color ? kRed + word + kPlain : word;
}

std::string state_text(const std::string& state, const OutputStyle& style) {
  const std::string shown = printable(state);
  if (!style.color || state.empty()) return shown;
  const bool bad = state == "failed" || state == "missing" || state == "no_backing";
  return (bad ? kRed : state == "running" || state == "done" ? kGreen : kYellow) + shown + kPlain;
}

std::string Table::text() const {
  std::string out;
  if (style_.bare) {
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) out += (i == 0 ? "" : "\t") + (row[i].empty() ? "-" : row[i]);
      out += "\n";
    }
    return out;
  }
  std::vector<std::size_t> widths;
  std::vector<std::string> heading;
  for (const Column& column : columns_) heading.emplace_back(column.heading);
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(width_of(heading[i]));
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width_of(row[i].empty() ? "-" : row[i]));
  }
  const auto add_line = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string cell = row[i].empty() ? "-" : row[i];
      const std::string padding(widths[i] - width_of(cell), ' ');
      line += (i == 0 ? "" : "  ") + (columns_[i].align == Align::right ? padding + cell : cell + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  add_line(heading);
  for (const auto& row : rows_) add_line(row);
  return out;
}

}  // namespace pcache
