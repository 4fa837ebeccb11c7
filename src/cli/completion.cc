#include "cli/completion.h"

#include <vector>

#include "cli/command_walk.h"
#include "cli/completion_words.h"

namespace pcache {
namespace {

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

// Names come from devices, and what is typed is not finished: nothing of either is evaluated, and what is offered is
// quoted. What is typed is put together from the line, for bash cuts words at = and : too.
constexpr const char* kScriptEnd = R"bash(
  local rest=${COMP_LINE:0:COMP_POINT} blanks word plain quote= cut= i
  local -a given=()
  for ((i = 0; i <= COMP_CWORD; ++i)); do
    blanks=${rest%%[![:space:]]*}
    rest=${rest#"$blanks"}
    word=${COMP_WORDS[i]}
    [ "$i" -lt "$COMP_CWORD" ] || word=$rest
    rest=${rest#"$word"}
    quote=
    case $word in
      \'*) quote=\'; plain=${word#\'}; plain=${plain%\'} ;;
      \"*) quote=\"; plain=${word#\"}; IFS= read plain <<<"${plain%\"}" ;;
      *) IFS= read plain <<<"$word" ;;
    esac
    cut=
    if [ -z "$blanks" ] && [ "${#given[@]}" -gt 0 ]; then
      cut=${given[-1]}
      given[-1]+=$plain
    else
      given+=("$plain")
    fi
    [[ ! $word =~ ^[=:]+$ ]] || cut=${given[-1]}
  done
  local now=${given[-1]} command=pcachefs mount= kind= list= files= place=0
  unset 'given[-1]'
  for ((i = 1; i < ${#given[@]}; ++i)); do
    word=${given[i]}
    case $word in
      --mount=*) mount=${word#*=} ;;
      -*=*) ;;
      -*)
        kind=${kinds["$command $word"]-${kinds["pcachefs $word"]-}}
        [ -z "$kind" ] || i=$((i + 1))
        [ "$word" != --mount ] || mount=${given[i]-}
        ;;
      *)
        if [ -n "${commands[$command]-}" ]; then
          [[ " ${commands[$command]} " == *" $word "* ]] || return 0
          command="$command $word"
        else
          place=$((place + 1))
        fi
        ;;
    esac
  done
  [[ $mount != "~/"* ]] || mount=$HOME/${mount#"~/"}
  local -a words=()
  if [ "$i" -gt "${#given[@]}" ]; then
    kind=${kinds["$command ${given[-1]}"]-${kinds["pcachefs ${given[-1]}"]-}}
  elif [[ $now == -*=* ]]; then
    list=${now%%=*}=
    kind=${kinds["$command ${now%%=*}"]-${kinds["pcachefs ${now%%=*}"]-}}
  elif [[ $now == -* ]]; then
    read -ra words <<<"${options[pcachefs]} ${options[$command]-}"
    mapfile -t words < <(printf '%s\n' "${words[@]}" | sort -u)
    kind=OPTION
  elif [ -n "${commands[$command]-}" ]; then
    read -ra words <<<"${commands[$command]}"
    kind=COMMAND
  else
    local -a places=()
    mapfile -t places <<<"${takes[$command]-}"
    kind=${places[place]-}
    [[ -n $kind || ${places[-1]} != *... ]] || kind=${places[-1]}
    kind=${kind%...}
  fi
  [ "$kind" != LABEL ] || [[ ${now#"$list"} != [./~]* ]] || kind=PATH
  case $kind in
    OPTION) ;;
    COMMAND) [ "${#words[@]}" -gt 0 ] || read -ra words <<<"${commands[pcachefs]}" ;;
    CACHE|PATH|BACKING|IMAGE|FILE) files=-f ;;
    MNT) files=-d ;;
    *)
      case $kind in
        KEY=VALUE,*|OPTIONS) [[ $now != *,* ]] || list=${now%,*},; kind=${kind%%,*} ;;
      esac
      [[ "|$asked|" == *"|$kind|"* ]] || return 0
      mapfile -t words < <("${COMP_WORDS[0]}" completion --of "$kind" ${mount:+--mount "$mount"} 2>/dev/null)
      ;;
  esac
  if [ -n "$files" ]; then
    compopt -o filenames  # which quotes them
    mapfile -t words < <(compgen "$files" -- "${now#"$list"}")
  fi
  local before=
  COMPREPLY=()
  for word in "${words[@]}"; do
    # A key before the values that it can have.
    if [[ -z $files && $word == *=* && ${now#"$list"} != *=* ]]; then word=${word%%=*}=; fi
    word=$list$word
    [[ $word == "$now"* && $word != "$before" ]] || continue
    before=$word
    word=${word#"$cut"}
    if [ -z "$files" ]; then
      case $quote in
        \') word=${word//\'/\'\\\'\'} ;;
        \") word=${word//\\/\\\\}; word=${word//\"/\\\"}; word=${word//\$/\\\$}; word=${word//\`/\\\`} ;;
        *) printf -v word %q "$word"; word=${word//'\,'/,}; ;;
      esac
    fi
    COMPREPLY+=("$word")
  done
  [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
}
complete -F _pcachefs pcachefs
)bash";

// What follows a command: commands below it, options, those of them that take a value, and words.
void add_command(const CLI::App& command, const std::string& path, std::string& text) {
  const auto add = [&](const char* array, const std::string& key, const std::string& value) {
    if (!value.empty()) text += std::string("  ") + array + "[\"" + key + "\"]=$'" + value + "'\n";
  };
  std::vector<std::string> below;
  for (const CLI::App* one : commands_of(command)) below.push_back(one->get_name());
  add("commands", path, joined(below, " "));
  std::vector<std::string> options;
  for (const CLI::Option* option : options_of(command, false)) {
    for (const std::string& name : names_of(*option)) {
      options.push_back(name);
      if (takes_value(*option)) add("kinds", path + " " + name, option->get_type_name());
    }
  }
  add("options", path, joined(options, " "));
  std::vector<std::string> words;
  for (const CLI::Option* word : options_of(command, true)) {
    words.push_back(word->get_name() + (word->get_items_expected_max() > 1 ? "..." : ""));
  }
  add("takes", path, joined(words, "\\n"));
  for (const CLI::App* one : commands_of(command)) add_command(*one, path + " " + one->get_name(), text);
}

}  // namespace

std::string completion_script(const CLI::App& app) {
  std::string text =
      "# What bash completes after `pcachefs`; made by `pcachefs completion`.\n_pcachefs() {\n"
      "  local -A commands=() options=() kinds=() takes=()\n";
  add_command(app, app.get_name(), text);
  return text + "  local asked='" + joined(completed_kinds(), "|") + "'\n" + kScriptEnd;
}

}  // namespace pcache
