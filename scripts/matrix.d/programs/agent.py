import sys

from twisted.internet import reactor, task
from twisted.web.client import Agent

task.react(lambda _: Agent(reactor, connectTimeout=60).request(b"GET", sys.argv[1].encode()))
