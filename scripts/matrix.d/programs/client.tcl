set connection [socket [lindex $argv 0] [lindex $argv 1]]
gets $connection
