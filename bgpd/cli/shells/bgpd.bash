# Completion of bgpd for bash (4.2 or newer). Written by: bgpd completion bash
#
# bgpd itself says what may follow. Bash cuts words at the characters of COMP_WORDBREAKS, among them ":" and "=", and
# replaces only what is behind the last of them: the rest is taken off the answers.

_bgpd() {
    local line=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]} answer
    local word=${line##*[[:space:]]}
    [[ $word == *"$current" ]] || current=${word##*[:=]}
    [[ $current == *[!:=]* ]] || current=
    local before=${word%"$current"} IFS=$'\n'
    COMPREPLY=()
    while read -r answer; do
        case $answer in
            :files)
                compopt -o filenames
                COMPREPLY+=($(compgen -f -- "$current"))
                ;;
            :directories)
                compopt -o filenames
                COMPREPLY+=($(compgen -d -- "$current"))
                ;;
            *) COMPREPLY+=("${answer#"$before"}") ;;
        esac
    done < <("$1" completion bash -- "$line" 2>/dev/null)
}
complete -F _bgpd bgpd
