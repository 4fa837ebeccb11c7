// Finding one of many by what it is called.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace pcache {

// The first of `all` whose `key` is `value`, or null.
template <typename T>
const T* find_by(const std::vector<T>& all, std::string T::*key, const std::string& value) {
  const auto it = std::find_if(all.begin(), all.end(), [&](const T& one) { return one.*key == value; });
  return it == all.end() ? nullptr : &*it;
}

}  // namespace pcache
