"""What the end-to-end tests are made of: the peers (DNS, rbldnsd, Postfix, receivers), the clients and Egret itself."""
