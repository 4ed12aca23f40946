# Completion of tcptune(1) for fish. What is possible is said by the command itself.
function __tcptune_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l word (commandline --current-token --cut-at-cursor)
    set -l lines (command tcptune complete -- $words "$word" 2>/dev/null)
    switch "$lines[1]"
        case words
            printf '%s\n' $lines[2..]
        case files
            set -l flag (string match --regex -- '^--[^=]*=' "$word")
            set -l path (string replace --regex -- '^--[^=]*=' '' "$word")
            printf "$flag%s\n" (complete --do-complete "'' $path")
        case 'command *'
            set -l first (math (string replace 'command ' '' -- $lines[1]) + 1)
            complete --do-complete (string join ' ' -- (string escape -- $words[$first..]) "$word")
    end
end
complete --command tcptune --no-files --keep-order --arguments '(__tcptune_complete)'
