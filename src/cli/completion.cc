#include "cli/completion.h"

#include <vector>

#include "cli/ask.h"
#include "cli/command_walk.h"
#include "pcache/settings.h"

namespace pcache {
namespace {

using nlohmann::json;

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// In front of "kind of word": the options that take one of it.
std::string options_case(const CLI::App& app, const std::string& command) {
  std::vector<std::string> all;
  std::string values;
  for (const CLI::Option* option : options_of(app, false)) {
    const auto names = names_of(*option);
    all.insert(all.end(), names.begin(), names.end());
    if (!takes_value(*option)) continue;
    for (const std::string& name : names) values += " [" + name + "]=\"" + option->get_type_name() + "\"";
  }
  return "  options[" + command + "]=\"" + joined(all) + "\"\n" +
         (values.empty() ? "" : "  values[" + command + "]='" + values.substr(1) + "'\n");
}

constexpr const char* kScriptEnd = R"bash(
  local -A value_of=()
  local word command= i=1 place=0
  eval "value_of=(${values[all]-})"
  while [ "$i" -lt "$COMP_CWORD" ]; do
    word=${COMP_WORDS[i]}
    if [[ $word == -* ]]; then
      [ -z "${value_of[$word]-}" ] || i=$((i + 1))
    elif [ -z "$command" ] && [ -n "$word" ]; then
      command=$word
      eval "value_of=(${values[all]-} ${values[$command]-})"
    elif [ -n "$word" ]; then
      place=$((place + 1))
    fi
    i=$((i + 1))
  done
  local now=${COMP_WORDS[COMP_CWORD]} kind
  local -a kinds
  if [ "$i" -gt "$COMP_CWORD" ]; then
    kind=${value_of[${COMP_WORDS[COMP_CWORD - 1]}]}
  elif [[ $now == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "${options[all]} ${options[${command:-all}]-}" -- "$now")
    return
  elif [ -z "$command" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$now")
    return
  else
    read -ra kinds <<<"${words[$command]-}"
    [ "$place" -lt "${#kinds[@]}" ] || return 0
    kind=${kinds[place]}
  fi
  case $kind in
    CACHE|PATH|BACKING|IMAGE|FILE) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$now") ;;
    MNT) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$now") ;;
    *)
      mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" completion --of "$kind" 2>/dev/null)" -- "$now")
      [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
      ;;
  esac
}
complete -F _pcachefs pcachefs
)bash";

// The field of all objects of a list in the daemon's reply.
std::string listed(const std::string& mount, const char* command, const char* list, const char* field) {
  const auto reply = ask(mount, command, json::object());
  if (!reply) return "";
  std::string lines;
  for (const json& item : reply->value(list, json::array())) {
    const json value = item.value(field, json());
    lines += (value.is_string() ? value.get<std::string>() : value.dump()) + "\n";
  }
  return lines;
}

std::string setting_names(const char* end) {
  std::string lines;
  for (const SettingInfo& info : all_settings()) lines += std::string(info.name) + end + "\n";
  return lines;
}

}  // namespace

std::string completion_words(const std::string& kind, const std::string& mount) {
  if (kind == "NAME") return listed(mount, "status", "logic_devs", "name");
  if (kind == "JOB") return listed(mount, "jobs", "jobs", "job");
  if (kind == "KEY") return setting_names("");
  if (kind.starts_with("KEY=VALUE")) return setting_names("=");
  return "";
}

std::string completion_script(const CLI::App& app) {
  std::string text =
      "# What bash completes after `pcachefs`; made by `pcachefs completion`.\n_pcachefs() {\n"
      "  local commands=\"";
  std::vector<std::string> names;
  for (const CLI::App* command : commands_of(app)) names.push_back(command->get_name());
  text += joined(names) + "\"\n  local -A options=() values=() words=()\n" + options_case(app, "all");
  for (const CLI::App* command : commands_of(app)) {
    text += options_case(*command, command->get_name());
    std::vector<std::string> words;
    for (const CLI::Option* word : options_of(*command, true)) words.push_back(word->get_name());
    if (!words.empty()) text += "  words[" + command->get_name() + "]=\"" + joined(words) + "\"\n";
  }
  return text + kScriptEnd;
}

}  // namespace pcache
