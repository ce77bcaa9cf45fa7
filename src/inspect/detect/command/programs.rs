//! Which programs attackers start, and which of their names are also English words.

/// What a name at the place of a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inspect::detect) enum Program {
    /// An interpreter: what follows it runs.
    Shell,
    /// A program that tells or changes something, whose name is no English word.
    Hostile,
    /// A program whose name is an English word too.
    English,
    /// A program that people pipe text through, and write about.
    Tool,
    /// Anything else.
    Unknown,
}

/// What a name in lower case, without its folder and without `.exe`, is.
pub(in crate::inspect::detect) fn program(name: &[u8]) -> Program {
    match name {
        b"sh" | b"bash" | b"zsh" | b"ksh" | b"csh" | b"tcsh" | b"dash" | b"ash" | b"cmd"
        | b"powershell" | b"pwsh" | b"python" | b"python2" | b"python3" | b"perl" | b"ruby"
        | b"php" | b"lua" | b"busybox" | b"wscript" | b"cscript" | b"rundll32" | b"regsvr32"
        | b"mshta" | b"wmic" | b"tclsh" => Program::Shell,
        b"ls" | b"id" | b"whoami" | b"uname" | b"pwd" | b"wget" | b"curl" | b"chmod" | b"chown"
        | b"ifconfig" | b"ipconfig" | b"netstat" | b"systeminfo" | b"tasklist" | b"nslookup"
        | b"nc" | b"ncat" | b"netcat" | b"telnet" | b"ftp" | b"tftp" | b"scp" | b"ssh"
        | b"socat" | b"rm" | b"cp" | b"mv" | b"ps" | b"env" | b"printenv" | b"getent" | b"lsof"
        | b"mkfifo" | b"mknod" | b"certutil" | b"bitsadmin" | b"lynx" | b"fetchmail"
        | b"traceroute" | b"tracert" | b"arp" | b"nmap" | b"tcpdump" | b"crontab" | b"useradd"
        | b"adduser" | b"passwd" | b"chpasswd" | b"hostname" | b"ifup" | b"lscpu" | b"dmesg"
        | b"iptables" | b"netsh" | b"schtasks" | b"taskkill" | b"xcopy" | b"dir" | b"ping6"
        | b"gcc" | b"rsync" | b"openssl" | b"base64" | b"xxd" | b"printf" | b"sudo" | b"su"
        | b"tac" | b"nl" | b"rev" | b"od" | b"ver" | b"xp_cmdshell" | b"dd" | b"mkdir"
        | b"rmdir" | b"ln" | b"unlink" | b"reboot" | b"usleep" | b"ip" | b"gawk" | b"xterm"
        | b"wc" | b"lsb_release" | b"stat" | b"strings" | b"readlink" | b"dpkg"
        | b"get-process" | b"get-content" | b"invoke-webrequest" | b"iwr" | b"iex" | b"nohup"
        | b"start-sleep" | b"ntpdate" | b"hexdump" | b"awk" | b"tar" | b"cpuinfo" | b"phpinfo"
        | b"findstr" => Program::Hostile,
        b"cat" | b"find" | b"sleep" | b"ping" | b"echo" | b"type" | b"more" | b"less" | b"head"
        | b"tail" | b"date" | b"time" | b"who" | b"w" | b"whois" | b"host" | b"dig" | b"touch"
        | b"kill" | b"net" | b"set" | b"copy" | b"move" | b"del" | b"finger" | b"last"
        | b"mail" | b"route" | b"top" | b"killall" | b"shutdown" | b"halt" | b"exec" | b"eval"
        | b"source" | b"export" | b"tee" | b"cd" | b"file" | b"history" | b"users" | b"groups"
        | b"uptime" | b"mount" | b"service" | b"timeout" | b"format" | b"start" | b"reg"
        | b"at" | b"nice" | b"watch" | b"exit" | b"expr" | b"true" | b"install" | b"split"
        | b"paste" | b"print" | b"for" | b"if" | b"while" | b"test" | b"locate" | b"logname"
        | b"free" | b"df" | b"du" | b"vi" | b"nano" | b"diff" | b"cut" | b"which" | b"vol"
        | b"make" | b"call" => Program::English,
        b"grep" | b"egrep" | b"fgrep" | b"sed" | b"sort" | b"uniq" | b"xargs" | b"tr" | b"jq"
        | b"git" | b"docker" | b"kubectl" | b"npm" | b"node" | b"cargo" | b"apt" | b"apt-get"
        | b"yum" | b"brew" | b"pip" | b"pip3" | b"go" | b"mysql" | b"psql" | b"java"
        | b"systemctl" | b"npx" | b"yarn" | b"helm" | b"terraform" | b"aws" | b"gcloud"
        | b"mvn" | b"gradle" => Program::Tool,
        _ => Program::Unknown,
    }
}

/// Whether a program only tells where it runs, as scripts that people share ask too.
pub(in crate::inspect::detect) fn is_harmless(name: &[u8]) -> bool {
    matches!(name, b"pwd" | b"date" | b"git" | b"nproc" | b"basename" | b"dirname")
}

/// Whether a program's name alone, without arguments, is hardly anything but a command.
pub(in crate::inspect::detect) fn is_unmistakable(name: &[u8]) -> bool {
    matches!(
        name,
        b"whoami"
            | b"ifconfig"
            | b"ipconfig"
            | b"systeminfo"
            | b"netstat"
            | b"uname"
            | b"tasklist"
            | b"printenv"
            | b"ls"
            | b"reboot"
            | b"uptime"
            | b"shutdown"
            | b"lsof"
            | b"xp_cmdshell"
            | b"id"
            | b"pwd"
            | b"w"
    )
}
