// Fields of replies. What a daemon of another version does not say, or says otherwise, is left out.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace pcache {

inline std::string text(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}
inline std::uint64_t number(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number_unsigned() ? it->get<std::uint64_t>() : 0;
}
inline bool flag(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_boolean() && it->get<bool>();
}
inline nlohmann::json object(const nlohmann::json& outer, const char* key) {
  const auto it = outer.find(key);
  return it != outer.end() && it->is_object() ? *it : nlohmann::json::object();
}
inline nlohmann::json list(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_array() ? *it : nlohmann::json::array();
}

}  // namespace pcache
