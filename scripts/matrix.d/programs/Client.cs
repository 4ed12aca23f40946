using System.Net;
using System.Threading;

class Client {
    static void Main(string[] arguments) {
        var request = WebRequest.Create(arguments[0]);
        request.Timeout = Timeout.Infinite;
        request.GetResponse();
    }
}
