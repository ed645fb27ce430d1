complete -o default -o bashdefault -C berth berth
