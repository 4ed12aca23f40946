import socket
import sys

listener = socket.socket()
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(5)
while True:
    connection, _ = listener.accept()
    try:
        connection.recv(1)
    except OSError as error:
        print(error)
    connection.close()
