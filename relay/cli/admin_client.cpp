#include "relay/cli/admin_client.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <stdexcept>

namespace egret::relay {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace json = boost::json;

json::value request(const AdminTarget& target, http::verb verb, const std::string& path, const std::string& body) {
  boost::asio::io_context context;
  boost::asio::ip::tcp::resolver resolver(context);
  beast::tcp_stream stream(context);
  boost::system::error_code error;
  const auto addresses = resolver.resolve(target.host, target.port, error);
  if (!error) stream.connect(addresses, error);
  const std::string where = target.host + ":" + target.port;
  if (error) throw std::runtime_error("no egret answers at " + where + ": " + error.message());
  http::request<http::string_body> out(verb, path, 11);
  out.set(http::field::host, where);
  if (!target.token.empty()) out.set(http::field::authorization, "Bearer " + target.token);
  if (verb == http::verb::post) out.set(http::field::content_type, "application/json");
  out.body() = body;
  out.keep_alive(false);
  out.prepare_payload();
  http::write(stream, out, error);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(256u << 20);
  if (!error) http::read(stream, buffer, parser, error);
  if (error) throw std::runtime_error("no answer from " + where + ": " + error.message());
  const auto& answer = parser.get();
  boost::system::error_code bad;
  json::value value = json::parse(answer.body(), bad);
  if (answer.result() == http::status::ok && !bad) return value;
  std::string text = "HTTP " + std::to_string(answer.result_int());
  if (!bad && value.is_object() && value.as_object().contains("error")) text = json::value_to<std::string>(value.at("error"));
  throw std::runtime_error(text);
}

}  // namespace

AdminTarget parse_admin_url(const std::string& url) {
  std::string rest = url;
  if (rest.starts_with("http://")) rest = rest.substr(7);
  while (!rest.empty() && rest.back() == '/') rest.pop_back();
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == rest.size() || rest.find("://") != std::string::npos)
    throw std::runtime_error("--admin: expected http://HOST:PORT");
  AdminTarget out;
  out.host = rest.substr(0, colon);
  out.port = rest.substr(colon + 1);
  if (out.host.front() == '[' && out.host.back() == ']') out.host = out.host.substr(1, out.host.size() - 2);
  return out;
}

json::value admin_get(const AdminTarget& target, const std::string& path) {
  return request(target, http::verb::get, path, "");
}

json::value admin_post(const AdminTarget& target, const std::string& path, const json::value& body) {
  return request(target, http::verb::post, path, json::serialize(body));
}

}  // namespace egret::relay
