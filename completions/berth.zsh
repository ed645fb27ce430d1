autoload -U +X bashcompinit && bashcompinit
complete -o default -o bashdefault -C berth berth
