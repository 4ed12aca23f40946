import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

/** Server HOST PORT. */
class Server {
    public static void main(String[] arguments) throws Exception {
        HttpServer.create(new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1])), 0).start();
    }
}
