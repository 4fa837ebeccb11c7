// What listings print: columns under headings for people; with -H, for scripts, no heading and a tab between columns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pcache {

// How results are printed, other than as JSON.
struct OutputStyle {
  bool bare = false;   // -H
  bool exact = false;  // -p: numbers as they are, without units
  bool color = false;  // on a terminal, unless NO_COLOR is set
};

// "8 KiB", "8K" in listings for scripts, or "8192".
std::string size_text(std::uint64_t bytes, const OutputStyle& style);

// A word that nobody shall overlook, in a colour.
std::string alarm_text(const std::string& word, const OutputStyle& style);

// A state, in a colour that says how good it is.
std::string state_text(const std::string& state, const OutputStyle& style);

class Table {
 public:
  enum class Align { left, right };
  struct Column {
    const char* heading;
    Align align = Align::left;
  };
  Table(const OutputStyle& style, std::vector<Column> columns) : style_(style), columns_(std::move(columns)) {}

  // As many texts as there are columns. What is empty is printed as "-".
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  std::string text() const;

 private:
  const OutputStyle style_;
  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace pcache
